"""Detections beside the truth: would they be right if the boxes or the classes had been mistaken?

A detector learns what it is shown. One that was shown boxes or classes wrongly finds every object, at wrong
corners or under a wrong name, and AP stays near 0. So each mix-up that is known is made on purpose with the
true boxes; where that makes detections fit, it is what happened to the data that was trained on.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from detrkit.catalog import Catalog
from detrkit.evaluation.coco import Result, rows_of
from detrkit.monitoring.doctor.facts import Answers

Boxes = Float64[np.ndarray, "N 4"]
FoundBoxes = Float64[np.ndarray, "D 4"]
Size = tuple[int, int]

AS_THEY_ARE = "as they are"

_MOST_IMAGES = 500
"""How many images are compared: the means of so many do not change in the second digit."""


def answers_of(catalog: Catalog, results: Sequence[Result]) -> Answers:
    """What results say about the objects of an evenly drawn part of a split's images; crowds are left out."""
    found = _by_image(catalog, results)
    every = max(1, len(catalog) // _MOST_IMAGES)
    chosen = [
        index for index in range(0, len(catalog), every) if (~catalog.crowds[catalog.rows(index)]).any()
    ]
    classes = len(catalog.categories)
    confusion = np.zeros((classes, classes), np.int64)
    fits: dict[str, list[float]] = {name: [] for name in MISTAKES}
    named: list[int] = []
    objects = 0
    scale = _scale(catalog, found, chosen)
    for index in chosen:
        rows = catalog.rows(index)
        counted = ~catalog.crowds[rows]
        boxes, labels = catalog.boxes[rows][counted], catalog.labels[rows][counted]
        best = found[index][: len(boxes)]
        objects += len(boxes)
        named += best[:, 5].astype(np.int64).tolist()
        for name, mistake in MISTAKES.items():
            mistaken = mistake(boxes, catalog.size(index)) if name != _SCALED else boxes * scale
            fits[name] += _best_iou(mistaken, best[:, :4]).tolist()
        _count(confusion, boxes, labels, best)
    return Answers(
        images=len(chosen),
        objects=objects,
        fits={name: float(np.mean(values)) if values else 0.0 for name, values in fits.items()},
        confusion=confusion.tolist(),
        shares=(np.bincount(named, minlength=classes) / max(len(named), 1)).tolist(),
    )


def _xywh_taken_from_xyxy(boxes: Boxes, size: Size) -> Boxes:
    """Right and bottom, taken as width and height."""
    return _clipped(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), size)


def _xyxy_taken_from_xywh(boxes: Boxes, size: Size) -> Boxes:
    """Width and height, taken as right and bottom; where these lie before the corner, there is no box."""
    return _clipped(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), size)


def _corner_taken_for_centre(boxes: Boxes, size: Size) -> Boxes:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return _clipped(boxes - np.tile(half, 2), size)


def _centre_taken_for_corner(boxes: Boxes, size: Size) -> Boxes:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return _clipped(boxes + np.tile(half, 2), size)


def _axes_swapped(boxes: Boxes, size: Size) -> Boxes:
    return _clipped(boxes[:, [1, 0, 3, 2]], size)


def _mirrored(boxes: Boxes, size: Size) -> Boxes:
    return np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)


def _upside_down(boxes: Boxes, size: Size) -> Boxes:
    return np.stack([boxes[:, 0], size[0] - boxes[:, 3], boxes[:, 2], size[0] - boxes[:, 1]], axis=1)


def _unchanged(boxes: Boxes, size: Size) -> Boxes:
    return boxes


_SCALED = "of another size of the images"

MISTAKES: dict[str, Callable[[Boxes, Size], Boxes]] = {
    AS_THEY_ARE: _unchanged,
    "[left, top, right, bottom] read as [x, y, width, height]": _xywh_taken_from_xyxy,
    "[x, y, width, height] read as [left, top, right, bottom]": _xyxy_taken_from_xywh,
    "[left, top, width, height] read as [centre, width, height]": _corner_taken_for_centre,
    "[centre, width, height] read as [left, top, width, height]": _centre_taken_for_corner,
    "x and y swapped": _axes_swapped,
    "mirrored from left to right, without their images": _mirrored,
    "mirrored from top to bottom, without their images": _upside_down,
    _SCALED: _unchanged,
}
"""Every mix-up by what it is, as a function of true boxes and (height, width)."""


def _clipped(boxes: Boxes, size: Size) -> Boxes:
    """What training makes of boxes that reach outside."""
    return np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])


def _by_image(catalog: Catalog, results: Sequence[Result]) -> list[Float64[np.ndarray, "_ 6"]]:
    """(left, top, right, bottom, score, label) of each image's detections, best first."""
    rows = rows_of(catalog, results)
    rows = rows[np.argsort(-rows[:, 5], kind="stable")]
    position = np.argsort(catalog.image_ids)[rows[:, 0].astype(np.int64)]
    columns = np.column_stack([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5], rows[:, 5:7]])
    order = np.argsort(position, kind="stable")
    edges = np.searchsorted(position[order], np.arange(len(catalog) + 1))
    return [_apart(columns[order[start:end]]) for start, end in itertools.pairwise(edges)]


def _apart(found: Float64[np.ndarray, "D 6"]) -> Float64[np.ndarray, "E 6"]:
    """One detection of each box, its best: a query may answer with several classes."""
    _, first = np.unique(found[:, :4], axis=0, return_index=True)
    return found[np.sort(first)]


def _scale(catalog: Catalog, found: list[Float64[np.ndarray, "_ 6"]], chosen: list[int]) -> float:
    """By how much the best detections reach farther than the objects: the ratio of the median far corners."""
    true = [catalog.boxes[catalog.rows(index)] for index in chosen]
    best = [found[index][: len(boxes), :4] for index, boxes in zip(chosen, true, strict=True)]
    reached = np.concatenate([np.zeros((0, 4)), *best])[:, 2:]
    stated = np.concatenate([np.zeros((0, 4)), *true])[:, 2:]
    return float(np.median(reached) / max(np.median(stated), 1e-9)) if len(reached) and len(stated) else 1.0


def _best_iou(boxes: Boxes, found: FoundBoxes) -> Float64[np.ndarray, " N"]:
    """Each box's highest IoU with one that was found; 0 for a box without area, or where nothing was."""
    if not len(found):
        return np.zeros(len(boxes))
    return _iou(boxes, found).max(axis=1)


def _iou(boxes: Boxes, found: FoundBoxes) -> Float64[np.ndarray, "N D"]:
    low = np.maximum(boxes[:, None, :2], found[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], found[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area, other = (np.clip(of[:, 2:] - of[:, :2], 0, None).prod(axis=1) for of in (boxes, found))
    return np.where(area[:, None] > 0, shared / np.maximum(area[:, None] + other - shared, 1e-12), 0.0)


def _count(
    confusion: Int64[np.ndarray, "C C"],
    boxes: Boxes,
    labels: Int64[np.ndarray, " N"],
    best: Float64[np.ndarray, "D 6"],
) -> None:
    """Add the objects whose place was found, each under the class of the best score there."""
    overlaps = _iou(boxes, best[:, :4]) >= 0.5
    for label, overlapping in zip(labels, overlaps, strict=True):
        if overlapping.any():
            confusion[label, int(best[int(overlapping.argmax()), 5])] += 1
