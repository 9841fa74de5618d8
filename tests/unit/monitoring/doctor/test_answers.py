"""Detections that were taught a known mistake must be explained by it, and right ones by none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from detrkit.catalog import Catalog, Category
from detrkit.evaluation.coco import Result
from detrkit.monitoring.doctor.ailment import Ailment
from detrkit.monitoring.doctor.answers import AS_THEY_ARE, answers_of
from detrkit.monitoring.doctor.facts import Course, Facts
from detrkit.monitoring.doctor.teaching import boxes_mistaken, labels_mistaken

WIDTH, HEIGHT, CLASSES = 200, 160, 5

Boxes = torch.Tensor


def catalog(images: int = 40, each: int = 3) -> Catalog:
    random = np.random.default_rng(0)
    low = random.uniform([10, 10], [90, 70], (images * each, 2))
    boxes = np.concatenate([low, low + random.uniform(25, 60, low.shape)], axis=1)
    return Catalog(
        source=Path("val"),
        folder=Path("val"),
        categories=tuple(Category(10 * label + 7, f"class {label}") for label in range(CLASSES)),
        image_ids=np.arange(100, 100 + images)[::-1].copy(),
        file_names=np.array([f"{number}.png" for number in range(images)]),
        widths=np.full(images, WIDTH),
        heights=np.full(images, HEIGHT),
        offsets=np.arange(0, images * each + 1, each),
        annotation_ids=np.arange(images * each),
        boxes=boxes,
        labels=random.integers(CLASSES, size=images * each),
        areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        crowds=np.zeros(images * each, np.bool_),
    )


def results(
    truth: Catalog,
    learned: Callable[[Boxes], Boxes] = lambda boxes: boxes,
    named: Callable[[int], int] = lambda label: label,
    noise: float = 2.0,
) -> list[Result]:
    """Detections of a model that learned wrong boxes (xyxy) and classes, with some noise and some rubbish."""
    random = np.random.default_rng(1)
    found: list[Result] = []
    for index in range(len(truth)):
        rows = truth.rows(index)
        boxes = learned(torch.from_numpy(truth.boxes[rows])).numpy()
        boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]) + random.normal(0, noise, boxes.shape)
        labels = [named(int(label)) for label in truth.labels[rows]]
        rubbish = [[0.0, 0.0, 9.0, 9.0]]
        scores = [*np.linspace(0.9, 0.7, len(boxes)).tolist(), 0.1]
        for box, label, score in zip([*boxes.tolist(), *rubbish], [*labels, 0], scores, strict=True):
            x, y, right, bottom = box
            found.append(
                {
                    "image_id": int(truth.image_ids[index]),
                    "category_id": truth.categories[label].id,
                    "bbox": [x, y, right - x, bottom - y],
                    "score": score,
                }
            )
    return found


def facts_of(truth: Catalog, found: list[Result]) -> Facts:
    return Facts(
        settings={},
        parameters=(1, 1),
        state="finished",
        course=Course(0, 0.0, [], []),
        answers=answers_of(truth, found),
    )


def test_right_detections_are_no_mistake() -> None:
    truth = catalog()
    facts = facts_of(truth, results(truth))
    assert boxes_mistaken(facts) is None
    assert labels_mistaken(facts) is None


def test_fits_are_the_mean_of_the_best_iou_of_each_object() -> None:
    truth = catalog(images=4)
    found = results(truth, noise=6.0)
    expected = []
    for index in range(4):
        mine = [one["bbox"] for one in found if one["image_id"] == truth.image_ids[index]][:3]
        boxes = box_convert(torch.tensor(mine, dtype=torch.float64), "xywh", "xyxy")
        expected += box_iou(torch.from_numpy(truth.boxes[truth.rows(index)]), boxes).amax(1).tolist()
    answers = answers_of(truth, found)
    assert answers.fits[AS_THEY_ARE] == pytest.approx(np.mean(expected), abs=1e-9)
    assert answers.objects == 12


def test_a_box_found_under_several_classes_counts_once() -> None:
    truth = catalog(images=2, each=2)
    found = [
        one | {"score": one["score"] - lower, "category_id": truth.categories[label].id}
        for one in results(truth, noise=0.0)
        for label, lower in ((0, 0.0), (1, 0.01), (2, 0.02))
        if one["score"] != 0.1
    ]
    assert answers_of(truth, found).fits[AS_THEY_ARE] == pytest.approx(1.0, abs=1e-6)


MISTAKEN: dict[str, Callable[[Boxes], Boxes]] = {
    # (x, y, right, bottom) taken for (x, y, width, height), as torchvision converts it
    "[left, top, right, bottom] read as": lambda boxes: box_convert(boxes, "xywh", "xyxy"),
    "[centre, width, height] read as": lambda boxes: box_convert(
        box_convert(boxes, "xyxy", "cxcywh"), "xywh", "xyxy"
    ),
    "[left, top, width, height] read as": lambda boxes: box_convert(
        box_convert(boxes, "xyxy", "xywh"), "cxcywh", "xyxy"
    ),
    "x and y swapped": lambda boxes: boxes[:, [1, 0, 3, 2]],
    "mirrored from left to right": lambda boxes: torch.stack(
        [WIDTH - boxes[:, 2], boxes[:, 1], WIDTH - boxes[:, 0], boxes[:, 3]], 1
    ),
    "mirrored from top to bottom": lambda boxes: torch.stack(
        [boxes[:, 0], HEIGHT - boxes[:, 3], boxes[:, 2], HEIGHT - boxes[:, 1]], 1
    ),
    "of another size": lambda boxes: boxes * 0.5,
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_boxes_that_were_taught_wrongly_are_explained(name: str) -> None:
    truth = catalog()
    found = boxes_mistaken(facts_of(truth, results(truth, MISTAKEN[name])))
    assert isinstance(found, Ailment)
    assert name in found.what


def test_boxes_at_random_are_explained_by_nothing() -> None:
    truth = catalog()
    random = torch.Generator().manual_seed(0)

    def anywhere(boxes: Boxes) -> Boxes:
        low = torch.rand(len(boxes), 2, generator=random, dtype=torch.float64) * 100
        return torch.cat([low, low + 45], 1)

    assert boxes_mistaken(facts_of(truth, results(truth, anywhere))) is None


@pytest.mark.parametrize(
    "named",
    [
        lambda label: (label + 1) % CLASSES,
        lambda label: (label - 1) % CLASSES,
        lambda label: CLASSES - 1 - label,
    ],
)
def test_labels_that_were_exchanged_are_named(named: Callable[[int], int]) -> None:
    truth = catalog()
    facts = facts_of(truth, results(truth, named=named))
    found = labels_mistaken(facts)
    assert found is not None
    assert boxes_mistaken(facts) is None
    assert f"0 is found as {named(0)}" in found.evidence


def test_a_shift_of_labels_is_called_one() -> None:
    truth = catalog()
    found = labels_mistaken(facts_of(truth, results(truth, named=lambda label: (label + 1) % CLASSES)))
    assert found is not None
    assert "shifted by +1" in found.what


def test_labels_at_random_are_no_exchange() -> None:
    truth = catalog()
    random = np.random.default_rng(3)
    found = results(truth, named=lambda label: int(random.integers(CLASSES)))
    assert labels_mistaken(facts_of(truth, found)) is None


def test_without_detections_nothing_is_said() -> None:
    truth = catalog()
    facts = facts_of(truth, [])
    assert boxes_mistaken(facts) is None
    assert labels_mistaken(facts) is None
