"""What kind of mistake every wrong detection is, and the AP50 that each kind costs.

The types and their remedies are those of Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object
Detection Errors", sections 2.2 and 2.3. With ``own`` and ``other`` for the largest IoU with an object of the
detection's class and of any other, the first that holds is a false positive's type:

    localisation     0.1 <= own < 0.5
    classification   other >= 0.5
    duplicate        own >= 0.5: the object has a better detection
    background       other <= 0.1
    both             0.1 < other < 0.5: wrong class and wrong place

An object is missed where no detection is counted for it, and none would be if its class or place were mended.

What a type costs is how much AP50 rises if its detections are mended and all else stays: a detection of a
wrong class or place becomes right, unless its object has a better one, and then it is removed, as are those
of the other types; missed objects no longer count. The mean is always over all classes that have objects, so
a class of which all are missed has an AP of 0 throughout. Costs are not shares of a whole and do not add up.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from detrkit.boxes import pairwise_iou
from detrkit.errors import DetrkitError
from detrkit.evaluation.average_precision import average_precision
from detrkit.evaluation.judged import Judged

ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""The types of errors. A detection's type is a position among the first five."""

CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)


class ErrorTypes(NamedTuple):
    """The errors of a split's detections at one IoU, of ``D`` detections and ``C`` classes.

    ``types[d]`` is a position in ``ERRORS``, or -1 where detection ``d`` is right or not counted.
    ``objects[d]`` is the annotation that it would find with another class or place, -1 for other types.
    ``counts[c, e]`` has classification errors under the class that was said.

    ``AP`` is that at the IoU and ``costs[e]`` by how much it rises without errors of that type.
    ``false_positives`` and ``false_negatives`` are what all of them cost: AP rises by so much if no detection
    is wrong, or if every object that is not found does not count. All are -1 where there is no object.
    """

    types: Int64[np.ndarray, " D"]
    objects: Int64[np.ndarray, " D"]
    missed: Bool[np.ndarray, " annotations"]
    counts: Int64[np.ndarray, "C 6"]
    AP: float
    costs: Float64[np.ndarray, "6"]
    false_positives: float
    false_negatives: float

    def to_dict(self, names: list[str]) -> dict[str, object]:
        """The figures as plain values by type; ``names`` are the classes'."""
        return {
            "AP": self.AP,
            "counts": dict(zip(ERRORS, self.counts.sum(axis=0).tolist(), strict=True)),
            "costs": dict(zip(ERRORS, self.costs.tolist(), strict=True)),
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "per_class": {
                name: dict(zip(ERRORS, row, strict=True))
                for name, row in zip(names, self.counts.tolist(), strict=True)
            },
        }


def error_types(judged: Judged, *, iou: float = 0.5, background: float = 0.1) -> ErrorTypes:
    """The type of every false positive at ``iou``, the objects missed, and what each type costs.

    Raises:
        DetrkitError: where ``judged`` does not have that IoU.
    """
    threshold = _row(judged, iou)
    right = judged.matches[threshold] >= 0
    counted = judged.counted[threshold]
    own, other = _nearest(judged, np.flatnonzero(counted & ~right))
    types = np.where(counted & ~right, _types(own.ious, other.ious, iou, background), -1)
    objects = np.select([types == LOCALISATION, types == CLASSIFICATION], [own.objects, other.objects], -1)
    unfound = judged.missed(threshold)
    missed = unfound.copy()
    missed[objects[objects >= 0]] = False
    ranking = _Ranking(judged.found.labels, counted, right, _objects(judged, ~judged.catalog.crowds))
    alternatives = _mended(judged, ranking, types, objects, unfound, missed)
    ap, *mended = (_mean(_precisions(one), ranking.objects) for one in (ranking, *alternatives))
    rises = [one - ap if ranking.objects.any() else -1.0 for one in mended]
    return ErrorTypes(
        types=types,
        objects=objects,
        missed=missed,
        counts=_counts(judged, types, missed),
        AP=ap,
        costs=np.array(rises[:6]),
        false_positives=rises[6],
        false_negatives=rises[7],
    )


class _Nearest(NamedTuple):
    """The largest IoU of each detection with some objects, and which object has it; 0 and -1 without any."""

    ious: Float64[np.ndarray, " D"]
    objects: Int64[np.ndarray, " D"]


class _Ranking(NamedTuple):
    """All that AP depends on: detections, best first, with their labels, and the objects of each class."""

    labels: Int64[np.ndarray, " D"]
    counted: Bool[np.ndarray, " D"]
    right: Bool[np.ndarray, " D"]
    objects: Int64[np.ndarray, " C"]


def _row(judged: Judged, iou: float) -> int:
    for row, one in enumerate(judged.ious):
        if abs(one - iou) < 1e-6:
            return row
    known = ", ".join(f"{one:g}" for one in judged.ious)
    raise DetrkitError(
        f"{judged.catalog.source}: no detection was judged at IoU {iou:g}, only at {known}; "
        "evaluate with that IoU."
    )


def _nearest(judged: Judged, wrong: Int64[np.ndarray, " wrong"]) -> tuple[_Nearest, _Nearest]:
    """For the detections ``wrong``, the nearest objects of their own class and of all others."""
    catalog, found = judged.catalog, judged.found
    number = len(found.scores)
    own, other = (_Nearest(np.zeros(number), np.full(number, -1)) for _ in range(2))
    by_image = wrong[np.argsort(found.images[wrong], kind="stable")]
    ends = np.searchsorted(found.images[by_image], np.arange(len(catalog) + 1))
    for image in np.flatnonzero(np.diff(ends)).tolist():
        detections = by_image[ends[image] : ends[image + 1]]
        rows = np.arange(len(catalog.labels))[catalog.rows(image)]
        rows = rows[~catalog.crowds[rows]]
        if not len(rows):
            continue
        overlap = pairwise_iou(*map(torch.from_numpy, (found.boxes[detections], catalog.boxes[rows]))).numpy()
        # Rounded, so that the last bits of corners put no IoU on the wrong side of a threshold.
        overlap = np.nan_to_num(overlap).round(10)
        same = found.labels[detections, None] == catalog.labels[rows]
        for nearest, among in ((own, same), (other, ~same)):
            best = np.where(among, overlap, -1.0).argmax(axis=1)
            chosen = np.arange(len(best)), best
            nearest.ious[detections] = np.where(among[chosen], overlap[chosen], 0.0)
            nearest.objects[detections] = np.where(among[chosen], rows[best], -1)
    return own, other


def _types(
    own: Float64[np.ndarray, " D"], other: Float64[np.ndarray, " D"], iou: float, background: float
) -> Int64[np.ndarray, " D"]:
    return np.select(
        [(background <= own) & (own < iou), other >= iou, own >= iou, other <= background],
        [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
        BOTH,
    )


def _mended(
    judged: Judged,
    ranking: _Ranking,
    types: Int64[np.ndarray, " D"],
    objects: Int64[np.ndarray, " D"],
    unfound: Bool[np.ndarray, " annotations"],
    missed: Bool[np.ndarray, " annotations"],
) -> list[_Ranking]:
    """The ranking without each type of errors in turn, without false positives, and without negatives."""
    mendable = np.zeros(len(types), bool)
    aimed = np.flatnonzero(objects >= 0)
    aimed = aimed[unfound[objects[aimed]]]
    mendable[aimed[np.unique(objects[aimed], return_index=True)[1]]] = True
    labels, counted, right, number = ranking
    mended = []
    for error in range(MISSED):
        mend = mendable & (types == error)
        moved = labels.copy()
        moved[mend] = judged.catalog.labels[objects[mend]]
        mended.append(_Ranking(moved, counted & ((types != error) | mend), right | mend, number))
    return [
        *mended,
        ranking._replace(objects=number - _objects(judged, missed)),
        ranking._replace(counted=right),
        ranking._replace(objects=number - _objects(judged, unfound)),
    ]


def _objects(judged: Judged, chosen: Bool[np.ndarray, " annotations"]) -> Int64[np.ndarray, " C"]:
    return np.bincount(judged.catalog.labels[chosen], minlength=len(judged.catalog.categories))


def _mean(precisions: Float64[np.ndarray, " C"], objects: Int64[np.ndarray, " C"]) -> float:
    return float(precisions[objects > 0].mean()) if objects.any() else -1.0


def _precisions(ranking: _Ranking) -> Float64[np.ndarray, " C"]:
    """The AP of each class, 0 where no object counts."""
    kept = np.flatnonzero(ranking.counted)
    kept = kept[np.argsort(ranking.labels[kept], kind="stable")]
    ends = np.searchsorted(ranking.labels[kept], np.arange(len(ranking.objects) + 1))
    precisions = np.zeros(len(ranking.objects))
    for label in np.flatnonzero(ranking.objects):
        places = np.flatnonzero(ranking.right[kept[ends[label] : ends[label + 1]]])[:, None]
        found = np.arange(1, len(places) + 1)[:, None]
        precisions[label] = average_precision(found, places + 1, ranking.objects[[label]])[0]
    return precisions


def _counts(
    judged: Judged, types: Int64[np.ndarray, " D"], missed: Bool[np.ndarray, " annotations"]
) -> Int64[np.ndarray, "C 6"]:
    classes = len(judged.catalog.categories)
    wrong = types >= 0
    cells = np.bincount(judged.found.labels[wrong] * 6 + types[wrong], minlength=classes * 6).reshape(
        classes, 6
    )
    cells[:, MISSED] = _objects(judged, missed)
    return cells
