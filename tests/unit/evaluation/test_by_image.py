"""Scores of images, against closed forms and a count by hand."""

from pathlib import Path

import numpy as np
import pytest

from detrkit.catalog import Catalog, Category
from detrkit.evaluation.by_image import best_threshold, image_scores, worst_and_best
from detrkit.evaluation.judged import Judged, judge


def catalog(objects: list[int], crowds: tuple[int, ...] = ()) -> Catalog:
    """So many objects in each image, 25 pixels apart in a row."""
    images, total = len(objects), sum(objects)
    boxes = [[25.0 * n, 0, 25 * n + 20, 20] for count in objects for n in range(count)]
    return Catalog(
        source=Path("truth.json"),
        folder=Path("images"),
        categories=(Category(1, "cat"), Category(2, "dog")),
        image_ids=np.arange(images) + 1,
        file_names=np.array([f"{n}.png" for n in range(images)]),
        widths=np.full(images, 200),
        heights=np.full(images, 100),
        offsets=np.concatenate([[0], np.cumsum(objects)]),
        annotation_ids=np.arange(total) + 1,
        boxes=np.array(boxes).reshape(-1, 4),
        labels=np.zeros(total, np.int64),
        areas=np.full(total, 400.0),
        crowds=np.isin(np.arange(total), crowds),
    )


def result(image: int, place: int, score: float, category: int = 1, shift: float = 0) -> dict:
    return {
        "image_id": image + 1,
        "category_id": category,
        "bbox": [25.0 * place + shift, 0, 20, 20],
        "score": score,
    }


FAR = 5
"""A place without object."""


def judged(objects: list[int], results: list[dict], crowds: tuple[int, ...] = ()) -> Judged:
    return judge(catalog(objects, crowds), results)  # pyright: ignore[reportArgumentType]


def test_the_score_is_the_f1_of_what_is_sure() -> None:
    found = judged(
        [2, 1, 0, 0, 1],
        [
            result(0, 0, 0.9),
            result(0, FAR, 0.8),
            result(0, 1, 0.3),  # not sure
            result(1, 0, 0.9, category=2),
            result(2, 0, 0.9),
            result(4, 0, 0.7),
        ],
    )
    # a hit and a false alarm for two objects; a wrong class; a find where nothing is; nothing at all; a hit
    assert image_scores(found, 0.5).tolist() == [2 / 4, 0, 0, 1, 1]


def test_it_is_the_mean_over_the_overlaps_asked_for() -> None:
    # moved by 4 of 20 pixels, the IoU is 16 / 24: right at 0.5, 0.55, 0.6 and 0.65
    assert image_scores(judged([1], [result(0, 0, 0.9, shift=4)]), 0.5).tolist() == [pytest.approx(0.4)]


def test_crowds_are_neither_objects_nor_errors() -> None:
    found = judged([2], [result(0, 0, 0.9), result(0, 1, 0.8)], crowds=(1,))
    assert image_scores(found, 0.5).tolist() == [1]


def test_the_best_threshold_has_the_highest_f1() -> None:
    results = [result(0, 0, 0.9), result(1, FAR, 0.6), result(1, 0, 0.6), result(2, FAR, 0.2)]
    found = judged([1, 1, 1], results)
    # 2 x 1 / (1 + 3), then with both of 0.6: 2 x 2 / (3 + 3), then 2 x 2 / (4 + 3)
    assert best_threshold(found) == 0.6
    assert best_threshold(judged([1], [])) == best_threshold(judged([1], [result(0, FAR, 0.9)])) == 0.5


def test_worst_and_best_are_apart_and_ties_go_by_errors_and_by_finds() -> None:
    results = [
        result(1, FAR, 0.9),
        result(2, 0, 0.9),
        result(3, 0, 0.9),
        result(3, 1, 0.9),
        result(4, 0, 0.9),
    ]
    found = judged([1, 1, 1, 2, 2, 0], results)
    ranked = worst_and_best(found, 2, sure=0.5)
    assert ranked.worst == [1, 0]  # both found nothing right; image 1 has a false alarm too
    assert ranked.best == [3, 2]  # image 5, where nothing is and nothing was found, shows nothing
    everything = worst_and_best(found, 100)
    assert sorted(everything.worst + everything.best) == list(range(6))


def test_no_images_and_no_detections_are_fine() -> None:
    ranked = worst_and_best(judged([1, 0, 3], []), 1)
    assert (ranked.worst, ranked.best) == ([2], [1])
    assert worst_and_best(judged([1], []), 3).worst == [0]
