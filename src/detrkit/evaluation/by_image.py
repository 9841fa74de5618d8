"""How well a detector did in each image, and which images it did worst and best in."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from detrkit.evaluation.judged import Judged


class WorstAndBest(NamedTuple):
    """Images as positions in the catalog, worst or best first, and what they are ranked by.

    ``scores`` is the F1 of every image, see ``image_scores``, with detections that score at least ``sure``.
    """

    worst: list[int]
    best: list[int]
    scores: Float64[np.ndarray, " images"]
    sure: float


def worst_and_best(judged: Judged, number: int, sure: float | None = None) -> WorstAndBest:
    """The images with the lowest and the highest scores, at most ``number`` of each and none twice.

    Among images of one score, the worst is the one with the most errors, and the best the one with the most
    objects found, then the first. ``sure`` is the split's ``best_threshold`` unless given.
    """
    sure = best_threshold(judged) if sure is None else sure
    hits, claims, objects = _counts(judged, sure)
    scores = image_scores(judged, sure)
    errors = (claims + objects - 2 * hits).sum(0)
    images = np.arange(len(scores))
    worst = np.lexsort((images, -errors, scores))
    best = np.lexsort((images, -hits.sum(0), -scores))
    low = worst[: min(number, (len(images) + 1) // 2)]
    high = best[~np.isin(best, low)][:number]
    return WorstAndBest(low.tolist(), high.tolist(), scores, sure)


def image_scores(judged: Judged, sure: float) -> Float64[np.ndarray, " images"]:
    """The F1 of each image, ``2 TP / (claims + objects)``, as a mean over the IoU thresholds.

    Claims are the detections of at least this score that count as right or wrong. An image without objects
    and claims is right, 1; one with either alone is wrong, 0.
    """
    hits, claims, objects = _counts(judged, sure)
    total = claims + objects
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0).mean(0)


def best_threshold(judged: Judged) -> float:
    """The score from which detections make the highest F1, as a mean over the IoU thresholds.

    All images and classes count together. It is 0.5 if no detection is right at any threshold.
    """
    hits = np.cumsum(judged.matches >= 0, axis=1)
    claims = np.cumsum(judged.counted, axis=1)
    objects = int((~judged.catalog.crowds).sum())
    scores = judged.found.scores
    if not len(scores) or not hits[:, -1].any():
        return 0.5
    f1 = (2 * hits / np.maximum(claims + objects, 1)).mean(0)
    ends = np.append(scores[1:] < scores[:-1], True)  # equal scores are claimed together
    return float(scores[np.where(ends, f1, -1.0).argmax()])


def _counts(
    judged: Judged, sure: float
) -> tuple[Int64[np.ndarray, "T images"], Int64[np.ndarray, "T images"], Int64[np.ndarray, " images"]]:
    """(hits, claims, objects) of each image."""
    catalog, found = judged.catalog, judged.found
    claimed = found.scores >= sure

    def per_image(chosen: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(found.images[row], minlength=len(catalog)) for row in chosen & claimed])

    image_of_object = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))
    objects = np.bincount(image_of_object[~catalog.crowds], minlength=len(catalog))
    return per_image(judged.matches >= 0), per_image(judged.counted), objects
