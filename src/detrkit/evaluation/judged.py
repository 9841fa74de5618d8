"""What COCO's evaluation decides about every detection and every object, in columns.

Curves, IoU, error types, calibration and intervals are functions of a ``Judged``, which is made once. hotcoco
does the matching; its decisions and arrays equal pycocotools' ``evalImgs`` and ``eval``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import hotcoco
import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog
from detrkit.evaluation.coco import (
    COCO_IOUS,
    MAX_DETECTIONS,
    Metrics,
    Result,
    accumulated,
    rows_of,
    summarise,
)


class Found(NamedTuple):
    """Detections in columns, best first; where scores tie, in the order of the results.

    ``images`` are positions in the catalog, ``boxes`` are ``xyxy`` in pixels of the original image.
    """

    images: Int64[np.ndarray, " D"]
    labels: Int64[np.ndarray, " D"]
    boxes: Float64[np.ndarray, "D 4"]
    scores: Float64[np.ndarray, " D"]


class Judged(NamedTuple):
    """A split's detections as COCO's evaluation sees them. ``T`` IoU thresholds, ``D`` detections.

    ``matches[t, d]`` is the annotation (a row of the catalog) that detection ``d`` is counted for at
    ``ious[t]``, or -1. ``counted[t, d]`` is False where it counts neither as right nor as wrong: it lies in a
    crowd, or is beyond the detections that an image may have of a class. So what is counted and has no
    match is a false positive.

    ``precision[t, r, c, a, m]``, ``scores`` of the same axes and ``recall[t, c, a, m]`` are the evaluator's
    own arrays: ``r`` of 101 recalls, class ``c``, area ``a`` (all, small, medium, large), and ``m`` of
    ``max_detections``; -1 where there is no object.
    """

    catalog: Catalog
    ious: tuple[float, ...]
    max_detections: tuple[int, ...]
    metrics: Metrics
    found: Found
    matches: Int64[np.ndarray, "T D"]
    counted: Bool[np.ndarray, "T D"]
    precision: Float64[np.ndarray, "T R C A M"]
    recall: Float64[np.ndarray, "T C A M"]
    scores: Float64[np.ndarray, "T R C A M"]

    def missed(self, threshold: int) -> Bool[np.ndarray, " annotations"]:
        """Which objects, crowds aside, no detection is counted for at ``ious[threshold]``."""
        missed = ~self.catalog.crowds
        taken = self.matches[threshold]
        missed[taken[taken >= 0]] = False
        return missed


def judge(
    catalog: Catalog,
    results: Sequence[Result],
    *,
    ious: tuple[float, ...] = COCO_IOUS,
    max_detections: tuple[int, ...] = MAX_DETECTIONS,
) -> Judged:
    """COCO's decisions on results for all images of ``catalog``; an image without results found nothing.

    ``ious`` are ascending. ``Metrics`` of an IoU or a number of detections that was not asked for are -1.
    """
    rows = rows_of(catalog, results)
    evaluation = accumulated(catalog, rows, ious, max_detections)
    arrays = evaluation.eval
    assert arrays is not None  # they are accumulated
    order = np.argsort(-rows[:, 5], kind="stable")
    matches, counted = _decisions(evaluation, ious, len(rows))
    return Judged(
        catalog=catalog,
        ious=ious,
        max_detections=max_detections,
        metrics=summarise(catalog, arrays["precision"], arrays["recall"], ious, max_detections),
        found=_found(catalog, rows[order]),
        matches=matches[:, order],
        counted=counted[:, order],
        precision=arrays["precision"],
        recall=arrays["recall"],
        scores=arrays["scores"],
    )


def _found(catalog: Catalog, rows: Float64[np.ndarray, "D 7"]) -> Found:
    by_rank = np.argsort(catalog.image_ids)
    corners = rows[:, 1:5].copy()
    corners[:, 2:] += corners[:, :2]
    return Found(by_rank[rows[:, 0].astype(np.int64)], rows[:, 6].astype(np.int64), corners, rows[:, 5])


def _decisions(
    evaluation: hotcoco.COCOeval, ious: tuple[float, ...], number: int
) -> tuple[Int64[np.ndarray, "T D"], Bool[np.ndarray, "T D"]]:
    """Matches and what is counted, by the place of a detection in the results.

    hotcoco numbers detections and annotations from 1 in the order in which they were given.
    """
    matches = np.full((len(ious), number), -1, np.int64)
    counted = np.zeros((len(ious), number), np.bool_)
    for row, iou in enumerate(ious):
        found = evaluation.image_diagnostics(iou_thr=iou)
        counted[row, np.fromiter(found["dt_status"], np.int64) - 1] = True
        taken = found["dt_match"]
        matches[row, np.fromiter(taken, np.int64) - 1] = np.fromiter(taken.values(), np.int64) - 1
    return matches, counted
