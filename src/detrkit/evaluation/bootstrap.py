"""How far a split of this size lets AP be known: 95 % intervals by resampling its images.

A resample is a random half of the images (Shao and Wu 1989, "A general theory for jackknife variance
estimation"). Given the whole, the variance of a mean over a half is that of a mean over the whole, and the
bias of AP, which is too high where objects are few, grows in a half. So AP lies from the truth about as
halves lie from AP. The intervals are a little narrow: on simulated detections they held the truth in 89 to
93 % of samples (docs/results.md), nearer to 95 % than resampling with replacement where classes have few
objects.

A resample needs no evaluation of its own: every detection and object counts as often as its image is drawn.
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


class Resampled(NamedTuple):
    """An AP, NaN without objects, and what the truth may be for all that resamples tell."""

    value: float
    values: Float64[np.ndarray, " R"]


def interval(judged: Judged, *, iou: float | None = None, resamples: int = 1000, seed: int = 0) -> Interval:
    """AP over all IoUs that were judged, or at ``iou`` alone, with its interval."""
    return interval_of(resample(judged, iou=iou, resamples=resamples, seed=seed))


def interval_of(found: Resampled) -> Interval:
    """The AP with its interval."""
    value, values = found
    if np.isnan(value):
        return Interval(-1.0, -1.0, -1.0, len(values))
    low, high = np.clip(_limits(values), 0.0, 1.0).tolist()
    return Interval(value, low, high, len(values))


def paired_difference(
    first: Judged, second: Judged, *, iou: float | None = None, resamples: int = 1000, seed: int = 0
) -> Difference:
    """AP of ``first`` less that of ``second``, with the same images drawn for both; -1 without objects.

    Raises:
        DetrkitError: where they are not of the same images, objects and classes.
    """
    _require_same(first, second)
    return difference_of(*(resample(one, iou=iou, resamples=resamples, seed=seed) for one in (first, second)))


def difference_of(first: Resampled, second: Resampled) -> Difference:
    """The same, of two that were resampled with the same seed on the same split."""
    if np.isnan(first.value):
        return Difference(-1.0, -1.0, -1.0, -1.0, len(first.values))
    differences = first.values - second.values
    low, high = _limits(differences)
    above = float((differences > 0).mean())
    return Difference(first.value - second.value, low, high, above, len(differences))


def resample(judged: Judged, *, iou: float | None = None, resamples: int = 1000, seed: int = 0) -> Resampled:
    """AP over all IoUs that were judged, or at ``iou`` alone, and of so many random halves of the images."""
    rng = np.random.default_rng(seed)
    images = len(judged.catalog)
    half = images // 2
    value = float(average_precisions(judged, np.ones((images, 1), np.int32), iou)[0])
    halves = np.concatenate(
        [
            average_precisions(judged, _halves(rng, images, min(_AT_ONCE, resamples - start)), iou)
            for start in range(0, resamples, _AT_ONCE)
        ]
    )
    spread = np.sqrt(half / max(images - half, 1))  # 1 but where a half is not exactly that
    return Resampled(value, value - spread * (halves - value))


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


def _halves(rng: np.random.Generator, images: int, number: int) -> Int32[np.ndarray, "images R"]:
    ranks = rng.random((images, number)).argsort(axis=0)
    return np.ascontiguousarray(ranks < images // 2, np.int32)


def _limits(values: Float64[np.ndarray, " R"]) -> list[float]:
    """The middle 95 % of what is known; anything where no resample has an object."""
    known = values[~np.isnan(values)]
    return np.percentile(known, [2.5, 97.5]).tolist() if len(known) else [-1.0, 1.0]


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
