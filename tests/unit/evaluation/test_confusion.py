from collections.abc import Callable

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.cocoeval import COCOeval

from detrkit.evaluation.confusion import confusion
from detrkit.evaluation.judged import Judged

HERE, THERE = (0, 0, 40, 40), (200, 200, 40, 40)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.75])
def test_the_matrix_is_a_direct_count(
    judged: Judged, reference: COCOeval, decisions: list, score: float
) -> None:
    """Of what pycocotools counts, best first, each takes the free object that it overlaps most."""
    places = {category: place for place, category in enumerate(reference.params.catIds)}
    expected = np.zeros((81, 81), dtype=int)
    for image in reference.params.imgIds:
        found = [one.found for one in decisions if one.found["image_id"] == image]
        found = sorted((one for one in found if one["score"] >= score), key=lambda one: -one["score"])
        truth = [one for one in reference.cocoGt.imgToAnns[image] if not one["iscrowd"]]
        free = dict(enumerate(truth))
        for one in found:
            ious = {
                place: mask.iou([one["bbox"]], [other["bbox"]], [0])[0, 0] for place, other in free.items()
            }
            taken = max(ious, key=ious.__getitem__, default=None)
            row = places[free.pop(taken)["category_id"]] if taken is not None and ious[taken] >= 0.5 else 80
            expected[row, places[one["category_id"]]] += 1
        for one in free.values():
            expected[places[one["category_id"]], 80] += 1
    found = confusion(judged, score)
    assert (found.matrix == expected).all()
    assert found.matrix[:80].sum() == 830
    assert found.matrix[80, 80] == 0


def test_rows_are_true_and_columns_found(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", HERE, False), (0, "cat", THERE, False), (1, "cat", HERE, False)]
    found = [
        (0, "cat", HERE, 0.9),  # a cup taken for a cat
        (0, "cat", THERE, 0.8),
        (1, "cat", THERE, 0.7),  # on background, and the cat of image 1 is not found
        (2, "cup", HERE, 0.1),  # below the threshold
    ]
    result = confusion(scene(objects, found), 0.5)
    assert result.matrix.tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert result.pairs() == [("cup", "cat", 1)]
    assert result.to_dict() == {
        "iou": 0.5,
        "score": 0.5,
        "classes": ["cup", "cat"],
        "cells": [[0, 1, 1], [1, 1, 1], [1, 2, 1], [2, 1, 1]],
        "pairs": [{"true": "cup", "found": "cat", "count": 1}],
    }


def test_the_pairs_come_in_order_of_their_number(scene: Callable[..., Judged]) -> None:
    boxes = [(100 * place, 0, 40, 40) for place in range(5)]
    objects = [(0, name, box, False) for name, box in zip("aabbc", boxes, strict=True)]
    found = [(0, name, box, 0.9) for name, box in zip("cbaac", boxes, strict=True)]
    result = confusion(scene(objects, found, classes=("a", "b", "c")), 0.5)
    assert result.pairs() == [("b", "a", 2), ("a", "b", 1), ("a", "c", 1)]
    assert result.pairs(1) == [("b", "a", 2)]


def test_what_lies_in_a_crowd_is_left_out(scene: Callable[..., Judged]) -> None:
    inside = [(0, "cup", HERE, 0.9), (0, "cup", THERE, 0.8)]
    result = confusion(scene([(0, "cup", (0, 0, 300, 300), True)], inside), 0.5)
    assert not result.matrix.any()
    # a cat there is wrong, as it is for COCO
    result = confusion(scene([(0, "cup", (0, 0, 300, 300), True)], [(0, "cat", HERE, 0.9)]), 0.5)
    assert result.matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_nothing_found_and_no_threshold(scene: Callable[..., Judged]) -> None:
    assert confusion(scene([(0, "cup", HERE, False)], []), 0.5).matrix[0].tolist() == [0, 0, 1]
    wrong = confusion(scene([], [(0, "cup", HERE, 0.1)]), float("nan"))
    assert wrong.matrix[2].tolist() == [1, 0, 0]
    assert wrong.to_dict()["score"] is None
