"""How well the boxes fit: the IoU of matched detections, and the recall that is left at stricter IoUs."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64

from detrkit.boxes import paired_iou
from detrkit.evaluation.judged import Judged
from detrkit.evaluation.plain import plain

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""COCO's sizes of objects, by their area in pixels; an area on a border belongs to both."""


class MatchedPairs(NamedTuple):
    """Detections that are counted for an object, by place in ``found``, and the rows of these objects."""

    detections: Int64[np.ndarray, " M"]
    objects: Int64[np.ndarray, " M"]
    ious: Float64[np.ndarray, " M"]


class Overlap(NamedTuple):
    """The IoU of detections with the objects that they are counted for, whatever their score. ``B`` bins.

    Matched are those that COCO counts as right at ``iou``. ``mean`` is NaN where there are none, as are the
    means ``per_class`` and ``per_size`` (of the object: small, medium, large). ``counts[b]`` of them lie
    between ``edges[b]`` and ``edges[b + 1]``.

    ``recall["small"][t]``, and likewise for all, medium and large objects, is the mean recall of the classes
    at ``ious[t]``, -1 where there is no object. Its mean over COCO's IoUs is COCO's AR.
    """

    iou: float
    matched: int
    mean: float
    per_class: dict[str, float]
    per_size: dict[str, float]
    edges: Float64[np.ndarray, " B+1"]
    counts: Int64[np.ndarray, " B"]
    ious: Float64[np.ndarray, " T"]
    recall: dict[str, Float64[np.ndarray, " T"]]

    def to_dict(self) -> dict[str, Any]:
        """The fields as json has them."""
        return plain(self._asdict())


def overlap(judged: Judged, threshold: int = 0, bins: int = 20) -> Overlap:
    """The fit of what is matched at ``judged.ious[threshold]``, and recall over all of ``judged.ious``."""
    pairs = matched_pairs(judged, threshold)
    labels, areas = judged.catalog.labels[pairs.objects], judged.catalog.areas[pairs.objects]
    iou = judged.ious[threshold]
    edges = np.linspace(iou, 1, bins + 1)
    # an IoU that lies on the threshold may come out the last bit below it
    counts, _ = np.histogram(pairs.ious.clip(iou, 1), edges)
    return Overlap(
        iou=iou,
        matched=len(pairs.ious),
        mean=_mean(pairs.ious),
        per_class={
            category.name: _mean(pairs.ious[labels == label])
            for label, category in enumerate(judged.catalog.categories)
        },
        per_size={
            name: _mean(pairs.ious[(areas >= low) & (areas <= high)]) for name, (low, high) in SIZES.items()
        },
        edges=edges,
        counts=counts,
        ious=np.array(judged.ious),
        recall={name: _class_mean(judged.recall[:, :, a, -1]) for a, name in enumerate(("all", *SIZES))},
    )


def matched_pairs(judged: Judged, threshold: int = 0) -> MatchedPairs:
    """Every detection that COCO counts as right at ``judged.ious[threshold]``, its object, and their IoU."""
    rows = judged.matches[threshold]
    detections = np.flatnonzero(rows >= 0)
    objects = rows[detections]
    found, truth = judged.found.boxes[detections], judged.catalog.boxes[objects]
    ious = paired_iou(torch.from_numpy(found), torch.from_numpy(truth))
    return MatchedPairs(detections, objects, ious.numpy())


def _mean(values: Float64[np.ndarray, " N"]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _class_mean(recall: Float64[np.ndarray, "T C"]) -> Float64[np.ndarray, " T"]:
    present = (recall > -1).all(axis=0)
    return recall[:, present].mean(axis=1) if present.any() else np.full(len(recall), -1.0)
