"""Which class is taken for which: a confusion matrix with background.

Detections of any class are matched with objects of any class, best score first, each with the free object
that it overlaps most. So the diagonal may hold less than the true positives of COCO, which matches within a
class: where two detections of different classes lie on one object, the better score takes it.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.evaluation.coco import evaluator
from detrkit.evaluation.judged import Judged
from detrkit.evaluation.plain import plain


class Confusion(NamedTuple):
    """How many objects of each class were found as which, at an IoU and with ``score`` or more.

    ``matrix[i, j]`` are objects of class ``i`` found as class ``j``. The last row is what was found where no
    object is, the last column are objects that were not found. Crowds, and the detections that COCO
    counts neither as right nor as wrong, are left out.
    """

    iou: float
    score: float
    classes: tuple[str, ...]
    matrix: Int64[np.ndarray, "C+1 C+1"]

    def pairs(self, most: int = 10) -> list[tuple[str, str, int]]:
        """The pairs of classes (true, found) that are taken for each other most often, and how often."""
        wrong = self.matrix[:-1, :-1].copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            (self.classes[row], self.classes[column], int(wrong[row, column]))
            for row, column in zip(rows, columns, strict=True)
            if wrong[row, column]
        ]

    def to_dict(self) -> dict[str, Any]:
        """The fields as json has them; ``cells`` are row, column and count where the matrix is not 0."""
        rows, columns = np.nonzero(self.matrix)
        cells = np.column_stack([rows, columns, self.matrix[rows, columns]])
        pairs = [{"true": true, "found": found, "count": count} for true, found, count in self.pairs()]
        stated = {"iou": self.iou, "score": self.score, "classes": self.classes}
        return plain({**stated, "cells": cells, "pairs": pairs})


def confusion(judged: Judged, score: float, threshold: int = 0) -> Confusion:
    """The matrix at ``judged.ious[threshold]`` of detections with ``score`` or more; NaN keeps all."""
    # hotcoco would count what lies in a crowd as found on background, which COCO does not
    kept = judged.counted[threshold] & ~(judged.found.scores < score)
    rows = _rows(judged, kept)
    iou = judged.ious[threshold]
    matrix = evaluator(judged.catalog, rows).confusion_matrix(iou_thr=iou, max_det=max(len(rows), 1))[
        "matrix"
    ]
    classes = tuple(category.name for category in judged.catalog.categories)
    return Confusion(iou, score, classes, matrix.astype(np.int64))


def _rows(judged: Judged, kept: Bool[np.ndarray, " D"]) -> Float64[np.ndarray, "N 7"]:
    """Detections as hotcoco takes them: (rank of the image's id, x, y, width, height, score, label)."""
    found, image_ids = judged.found, judged.catalog.image_ids
    ranks = np.searchsorted(np.sort(image_ids), image_ids)
    low, high = found.boxes[kept, :2], found.boxes[kept, 2:]
    return np.column_stack(
        [ranks[found.images[kept]], low, (high - low).round(10), found.scores[kept], found.labels[kept]]
    )
