"""Precision, recall and F1 against direct counts of pycocotools' decisions."""

from collections.abc import Callable

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detrkit.evaluation.judged import Judged
from detrkit.evaluation.operating import operating_points, sweep

BOX, ELSEWHERE = (0, 0, 40, 40), (200, 200, 40, 40)


def count(decisions: list, objects: int, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of what is at least the threshold."""
    kept = [one for one in decisions if one.found["score"] >= threshold]
    right = sum(one.truth is not None for one in kept)
    return right / len(kept), right / objects, 2 * right / (len(kept) + objects)


def best(decisions: list, objects: int) -> tuple[float, ...]:
    """Threshold, precision, recall, F1: the best of all scores, tried one by one, the highest first."""
    scores = sorted({one.found["score"] for one in decisions}, reverse=True)
    return max(((score, *count(decisions, objects, score)) for score in scores), key=lambda one: one[3])


def test_the_best_thresholds_are_those_of_trying_every_score(
    judged: Judged, reference: COCOeval, decisions: list
) -> None:
    found = operating_points(judged)
    objects = [one for one in reference.cocoGt.anns.values() if not one["iscrowd"]]
    assert found.overall == pytest.approx(best(decisions, len(objects)))
    tried = 0
    for category in reference.cocoGt.cats.values():
        of_class = [one for one in decisions if one.found["category_id"] == category["id"]]
        number = sum(one["category_id"] == category["id"] for one in objects)
        point = found.per_class[category["name"]]
        if not number:
            assert np.isnan(point).all()
        elif of_class:
            tried += 1
            assert point == pytest.approx(best(of_class, number)), category["name"]
        else:
            assert np.isnan(point[:2]).all()
            assert point[2:] == (0, 0)
    assert tried > 50


def test_the_sweep_counts_what_is_left_at_each_threshold(
    judged: Judged, reference: COCOeval, decisions: list
) -> None:
    found = sweep(judged)
    objects = sum(not one["iscrowd"] for one in reference.cocoGt.anns.values())
    scores = [one["score"] for one in reference.cocoDt.anns.values()]
    assert found.scores.tolist() == [number / 100 for number in range(101)]
    for place in (0, 10, 37, 50, 80, 99):
        expected = count(decisions, objects, place / 100)
        assert (found.precision[place], found.recall[place], found.f1[place]) == pytest.approx(expected)
        left = sum(score >= place / 100 for score in scores) / 100
        assert found.per_image[place] == pytest.approx(left)


def test_equal_scores_are_kept_or_left_together(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", BOX, False), (1, "cup", BOX, False)]
    found = [(0, "cup", BOX, 0.9), (1, "cup", BOX, 0.5), (2, "cup", BOX, 0.5), (2, "cup", ELSEWHERE, 0.5)]
    # 0.9 keeps 1 of 1 and finds 1 of 2: F1 2/3. 0.5 keeps 2 of 4 and finds both: F1 4/6, no better.
    assert operating_points(scene(objects, found)).overall == pytest.approx((0.9, 1, 0.5, 2 / 3))
    # with one wrong detection less, 0.5 has 4/5
    assert operating_points(scene(objects, found[:3])).overall == pytest.approx((0.5, 2 / 3, 1, 0.8))


def test_what_lies_in_a_crowd_does_not_count(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", BOX, False), (1, "cup", (0, 0, 90, 90), True)]
    found = [(1, "cup", BOX, 0.9), (0, "cup", BOX, 0.5)]
    assert operating_points(scene(objects, found)).overall == (0.5, 1, 1, 1)


def test_scores_that_are_no_probabilities_have_a_grid_of_their_own(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", BOX, False)]
    found = sweep(scene(objects, [(0, "cup", BOX, 80), (1, "cup", BOX, -20)]))
    assert found.scores[[0, 1, 100]] == pytest.approx([-20, -19, 80])
    assert found.precision[[0, 1, 100]].tolist() == [0.5, 1, 1]
    assert found.per_image[[0, 1]] == pytest.approx([2 / 3, 1 / 3])


def test_another_iou(scene: Callable[..., Judged]) -> None:
    half = scene([(0, "cup", BOX, False)], [(0, "cup", (0, 0, 40, 24), 0.7)])  # IoU 0.6
    assert operating_points(half, threshold=2).overall.f1 == 1
    assert operating_points(half, threshold=3).overall.f1 == 0
    assert sweep(half, threshold=3).iou == pytest.approx(0.65)
    assert sweep(half, threshold=3).precision[0] == 0


def test_nothing_found_and_nothing_to_find(scene: Callable[..., Judged]) -> None:
    nothing = scene([(0, "cup", BOX, False)], [])
    assert operating_points(nothing).overall[2:] == (0, 0)
    assert sweep(nothing).recall.tolist() == [0] * 101
    assert np.isnan(sweep(nothing).precision).all()
    empty = scene([], [(0, "cup", BOX, 0.5)])
    assert np.isnan(operating_points(empty).overall).all()
    assert np.isnan(sweep(empty).f1).all()
    assert sweep(empty).precision[0] == 0
    assert operating_points(empty).to_dict()["overall"]["f1"] is None
