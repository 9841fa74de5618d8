"""What a detector does once a score threshold is chosen: precision, recall and F1, and which score is best.

All is counted as COCO counts, at one IoU. Unlike the 101 points of a precision-recall curve, the best
threshold is sought among the scores of all detections.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from detrkit.evaluation.coco import num_objects
from detrkit.evaluation.judged import Judged
from detrkit.evaluation.plain import plain


class OperatingPoint(NamedTuple):
    """Precision, recall and their F1, if detections with a score of ``threshold`` or more are kept.

    All are NaN for a class without objects. If it has some and nothing was found, only recall and F1 are
    numbers: 0.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


class OperatingPoints(NamedTuple):
    """Where F1 is best, at an IoU: with one score for all classes, counted together, and for each alone."""

    iou: float
    overall: OperatingPoint
    per_class: dict[str, OperatingPoint]

    def to_dict(self) -> dict[str, Any]:
        """The fields as json has them."""
        per_class = {name: point._asdict() for name, point in self.per_class.items()}
        return plain({"iou": self.iou, "overall": self.overall._asdict(), "per_class": per_class})


class Sweep(NamedTuple):
    """Precision, recall and F1 of all classes counted together, at ``S`` score thresholds and an IoU.

    ``per_image`` is the mean number of detections of an image that are left. Precision is NaN where none
    counts; recall and F1 where there are no objects.
    """

    iou: float
    scores: Float64[np.ndarray, " S"]
    precision: Float64[np.ndarray, " S"]
    recall: Float64[np.ndarray, " S"]
    f1: Float64[np.ndarray, " S"]
    per_image: Float64[np.ndarray, " S"]

    def to_dict(self) -> dict[str, Any]:
        """The fields as json has them."""
        return plain(self._asdict())


def operating_points(judged: Judged, threshold: int = 0) -> OperatingPoints:
    """The scores with the best F1 at ``judged.ious[threshold]``; of equals the highest."""
    counted = judged.counted[threshold]
    scores, labels = judged.found.scores[counted], judged.found.labels[counted]
    right = judged.matches[threshold, counted] >= 0
    objects = num_objects(judged.catalog).tolist()
    by_class = np.argsort(labels, kind="stable")  # keeps the best first
    ends = np.cumsum(np.bincount(labels, minlength=len(objects)))[:-1]
    parts = zip(np.split(scores[by_class], ends), np.split(right[by_class], ends), objects, strict=True)
    points = [_best(*part) for part in parts]
    return OperatingPoints(
        iou=judged.ious[threshold],
        overall=_best(scores, right, sum(objects)),
        per_class={one.name: point for one, point in zip(judged.catalog.categories, points, strict=True)},
    )


def sweep(judged: Judged, threshold: int = 0) -> Sweep:
    """What 101 score thresholds give at ``judged.ious[threshold]``.

    They are 0, 0.01 .. 1, or, where scores lie outside that, go evenly from the lowest score to the highest.
    """
    counted, scores = judged.counted[threshold], judged.found.scores
    right = judged.matches[threshold] >= 0
    grid = np.arange(101) / 100
    if scores.size and not 0 <= scores[-1] <= scores[0] <= 1:
        grid = np.linspace(scores[-1], scores[0], 101)
    kept, hits = (_at_least(grid, scores[which]) for which in (counted, right))
    objects = int(num_objects(judged.catalog).sum())
    return Sweep(
        iou=judged.ious[threshold],
        scores=grid,
        precision=_ratio(hits, kept),
        recall=_ratio(hits, np.full(101, objects)),
        f1=_ratio(2 * hits, kept + objects if objects else np.zeros(101)),
        per_image=_ratio(_at_least(grid, scores), np.full(101, len(judged.catalog))),
    )


def _best(scores: Float64[np.ndarray, " N"], right: Bool[np.ndarray, " N"], objects: int) -> OperatingPoint:
    if not objects:
        return OperatingPoint(np.nan, np.nan, np.nan, np.nan)
    if not len(scores):
        return OperatingPoint(np.nan, np.nan, 0.0, 0.0)
    # equal scores are kept or left together, so that a threshold is the last of its equals
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    hits, kept = np.cumsum(right)[ends], ends + 1
    f1 = 2 * hits / (kept + objects)
    best = int(np.argmax(f1))
    return OperatingPoint(
        threshold=float(scores[ends[best]]),
        precision=float(hits[best] / kept[best]),
        recall=float(hits[best] / objects),
        f1=float(f1[best]),
    )


def _at_least(
    grid: Float64[np.ndarray, " S"], scores: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " S"]:
    """How many of the scores, which are best first, each threshold of the grid keeps."""
    return (len(scores) - np.searchsorted(scores[::-1], grid, side="left")).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float64[np.ndarray, " S"]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
