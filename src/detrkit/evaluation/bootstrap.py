"""How far a split of this size lets AP be known: basic bootstrap intervals over images.

A resample draws as many images as there are, with replacement. Its AP is COCO's of a dataset that has
every image as often as it was drawn (where scores tie within an image, in one of the orders possible), so it
needs no evaluation of its own: every detection and object counts as often as its image.

The interval is the basic one (Davison and Hinkley 1997, section 5.2): AP lies from the truth as resamples lie
from AP. AP of few objects is too high on average, and that of resamples more so; a percentile interval would
have that twice. The basic one removes only a part of it, so the truth lies below the interval more often than
once in 40 times where classes have few objects.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from detrkit.errors import DetrkitError
from detrkit.evaluation.average_precision import average_precision
from detrkit.evaluation.judged import Judged


class Interval(NamedTuple):
    """A figure and its 95 % interval; all -1 where there is no object."""

    value: float
    low: float
    high: float
    resamples: int


class Difference(NamedTuple):
    """An AP less another's, its 95 % interval, and the share of resamples in which it is above 0."""

    value: float
    low: float
    high: float
    above: float
    resamples: int


def interval(judged: Judged, *, iou: float | None = None, resamples: int = 1000, seed: int = 0) -> Interval:
    """AP over all IoUs that were judged, or at ``iou`` alone, with its interval."""
    value, values = _value_and_resampled(judged, iou, resamples, seed)
    if np.isnan(value):
        return Interval(-1.0, -1.0, -1.0, resamples)
    low, high = np.clip(_basic(value, values), 0.0, 1.0).tolist()
    return Interval(value, low, high, resamples)


def paired_difference(
    first: Judged, second: Judged, *, iou: float | None = None, resamples: int = 1000, seed: int = 0
) -> Difference:
    """AP of ``first`` less that of ``second``, with the same images drawn for both; -1 without objects.

    Raises:
        DetrkitError: where they are not of the same images, objects and classes.
    """
    _require_same(first, second)
    value, values = _value_and_resampled(first, iou, resamples, seed)
    other, others = _value_and_resampled(second, iou, resamples, seed)
    if np.isnan(value):
        return Difference(-1.0, -1.0, -1.0, -1.0, resamples)
    differences = values - others
    low, high = _basic(value - other, differences).tolist()
    known = differences[~np.isnan(differences)]
    return Difference(value - other, low, high, float((known > 0).mean()), resamples)


def average_precisions(
    judged: Judged, draws: Int32[np.ndarray, "images R"], iou: float | None = None
) -> Float64[np.ndarray, " R"]:
    """COCO's AP if image ``i`` is there ``draws[i, r]`` times; NaN where that leaves no object."""
    every = range(len(judged.ious))
    rows = [row for row in every if iou is None or abs(judged.ious[row] - iou) < 1e-6]
    if not rows:
        known = ", ".join(f"{one:g}" for one in judged.ious)
        raise DetrkitError(
            f"{judged.catalog.source}: there is no AP at IoU {iou:g}, only at {known}; "
            "evaluate with that IoU."
        )
    total, number = np.zeros((2, draws.shape[1]))
    for precision in _of_classes(judged, draws, rows):
        total += np.nan_to_num(precision)
        number += ~np.isnan(precision)
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)


_AT_ONCE = 50
"""Resamples computed together: their columns of COCO's largest class take 20 MB."""


def _value_and_resampled(
    judged: Judged, iou: float | None, resamples: int, seed: int
) -> tuple[float, Float64[np.ndarray, " R"]]:
    rng = np.random.default_rng(seed)
    images = len(judged.catalog)
    value = average_precisions(judged, np.ones((images, 1), np.int32), iou)
    parts = []
    for start in range(0, resamples, _AT_ONCE):
        number = min(_AT_ONCE, resamples - start)
        draws = rng.multinomial(images, np.full(images, 1 / images), size=number)
        parts.append(average_precisions(judged, np.ascontiguousarray(draws.T, np.int32), iou))
    return float(value[0]), np.concatenate(parts)


def _basic(value: float, values: Float64[np.ndarray, " R"]) -> Float64[np.ndarray, "2"]:
    return 2 * value - np.nanpercentile(values, [97.5, 2.5])


def _require_same(first: Judged, second: Judged) -> None:
    one, other = first.catalog, second.catalog
    for what in ("image_ids", "offsets", "labels", "boxes", "crowds"):
        if not np.array_equal(getattr(one, what), getattr(other, what)):
            break
    else:
        if one.categories == other.categories and first.ious == second.ious:
            return
        what = "categories" if one.categories != other.categories else "IoUs"
    raise DetrkitError(
        f"{other.source}: its {what} are not those of {one.source}, so nothing pairs the two; "
        "evaluate both on the same split in the same way."
    )


def _of_classes(
    judged: Judged, draws: Int32[np.ndarray, "images R"], rows: list[int]
) -> Iterator[Float64[np.ndarray, " R"]]:
    """The AP of each class that has objects at each threshold, which are ``rows`` of the judged."""
    catalog, found = judged.catalog, judged.found
    image_of = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))
    order = np.argsort(found.labels, kind="stable")
    ends = np.searchsorted(found.labels[order], np.arange(len(catalog.categories) + 1))
    for label in range(len(catalog.categories)):
        objects = draws[image_of[(catalog.labels == label) & ~catalog.crowds]].sum(axis=0)
        detections = order[ends[label] : ends[label + 1]]
        if not objects.any():
            continue
        kept, drawn = detections, draws[found.images[detections]]
        total = drawn.cumsum(axis=0, dtype=np.int32)
        for threshold in rows:
            counted = detections[judged.counted[threshold, detections]]
            if not np.array_equal(counted, kept):
                kept, drawn = counted, draws[found.images[counted]]
                total = drawn.cumsum(axis=0, dtype=np.int32)
            places = np.flatnonzero(judged.matches[threshold, kept] >= 0)
            yield average_precision(drawn[places].cumsum(axis=0, dtype=np.int32), total[places], objects)
