"""Whether a score of 0.8 is right four times in five: the reliability diagram and its error.

The expected calibration error (Naeini et al. 2015; Guo et al. 2017) is the gap between score and accuracy,
weighted by the number of detections. Right is what COCO counts as right at one IoU. All detections count,
whatever their score, so where most scores are low, the error is mostly theirs.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from detrkit.evaluation.judged import Judged
from detrkit.evaluation.plain import plain


class Calibration(NamedTuple):
    """Scores and accuracy in ``B`` bins of equal width, at an IoU.

    ``confidence[b]`` and ``accuracy[b]`` are the mean score and the share of right ones among the
    ``counts[b]`` detections with a score from ``edges[b]`` up to, without it, ``edges[b + 1]`` (the last bin
    has both); NaN where there is none, as is an ``error`` of nothing.
    """

    iou: float
    error: float
    per_class: dict[str, float]
    edges: Float64[np.ndarray, " B+1"]
    confidence: Float64[np.ndarray, " B"]
    accuracy: Float64[np.ndarray, " B"]
    counts: Int64[np.ndarray, " B"]

    def to_dict(self) -> dict[str, Any]:
        """The fields as json has them."""
        return plain(self._asdict())


def calibration(judged: Judged, threshold: int = 0, bins: int = 10) -> Calibration | None:
    """The calibration at ``judged.ious[threshold]``; None where scores lie outside 0..1."""
    counted = judged.counted[threshold]
    scores, labels = judged.found.scores[counted], judged.found.labels[counted]
    if scores.size and not 0 <= scores.min() <= scores.max() <= 1:
        return None
    num_classes = len(judged.catalog.categories)
    place = labels * bins + np.minimum((scores * bins).astype(np.int64), bins - 1)

    def summed(weights: Float64[np.ndarray, " N"] | None) -> Float64[np.ndarray, "C B"]:
        return np.bincount(place, weights, num_classes * bins).reshape(num_classes, bins).astype(np.float64)

    right = (judged.matches[threshold, counted] >= 0).astype(np.float64)
    counts, confidence, hits = summed(None), summed(scores), summed(right)
    errors = [_error(*of_class) for of_class in zip(counts, confidence, hits, strict=True)]
    total = counts.sum(axis=0)
    return Calibration(
        iou=judged.ious[threshold],
        error=_error(total, confidence.sum(axis=0), hits.sum(axis=0)),
        per_class={one.name: error for one, error in zip(judged.catalog.categories, errors, strict=True)},
        edges=np.linspace(0, 1, bins + 1),
        confidence=_ratio(confidence.sum(axis=0), total),
        accuracy=_ratio(hits.sum(axis=0), total),
        counts=total.astype(np.int64),
    )


def _error(
    counts: Float64[np.ndarray, " B"], confidence: Float64[np.ndarray, " B"], hits: Float64[np.ndarray, " B"]
) -> float:
    """The gap between the sums of scores and of right ones, bin by bin, per detection."""
    return float(np.abs(confidence - hits).sum() / counts.sum()) if counts.any() else float("nan")


def _ratio(sums: Float64[np.ndarray, " B"], counts: Float64[np.ndarray, " B"]) -> Float64[np.ndarray, " B"]:
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
