"""IoU of matched detections against torchvision's ``box_iou`` of the pairs that pycocotools matches."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from detrkit.evaluation.judged import Judged
from detrkit.evaluation.overlap import matched_pairs, overlap


def corners(annotation: dict) -> torch.Tensor:
    x, y, width, height = annotation["bbox"]
    return torch.tensor([[x, y, x + width, y + height]], dtype=torch.float64)


@pytest.fixture(scope="module")
def expected(decisions: list) -> list[tuple[float, dict]]:
    """(IoU, object) of every match."""
    return [
        (float(box_iou(corners(one.found), corners(one.truth))), one.truth)
        for one in decisions
        if one.truth is not None
    ]


def test_ious_are_torchvisions(judged: Judged, expected: list) -> None:
    pairs = matched_pairs(judged)
    by_object = {one["id"]: iou for iou, one in expected}
    objects = judged.catalog.annotation_ids[pairs.objects].tolist()
    assert sorted(by_object) == sorted(objects)
    assert len(objects) > 400
    assert pairs.ious == pytest.approx([by_object[number] for number in objects], abs=1e-12)


def test_means_and_distribution_are_those_of_torchvisions_ious(
    judged: Judged, reference: COCOeval, expected: list
) -> None:
    found = overlap(judged)
    ious = [iou for iou, _ in expected]
    assert (found.iou, found.matched) == (0.5, len(ious))
    assert found.mean == pytest.approx(np.mean(ious))
    counts, edges = np.histogram(ious, bins=20, range=(0.5, 1))
    assert found.counts.tolist() == counts.tolist()
    assert found.edges == pytest.approx(edges)
    by_class, by_size = defaultdict(list), defaultdict(list)
    for iou, one in expected:
        by_class[reference.cocoGt.cats[one["category_id"]]["name"]].append(iou)
        side = one["area"] ** 0.5
        by_size["small" if side < 32 else "medium" if side < 96 else "large"].append(iou)
    for name, mean in found.per_class.items():
        assert mean == pytest.approx(np.mean(by_class[name]) if by_class[name] else np.nan, nan_ok=True)
    assert found.per_size == pytest.approx({name: np.mean(by_size[name]) for name in found.per_size})


def test_recall_over_iou_averages_to_cocos_recalls(judged: Judged, reference: COCOeval) -> None:
    found = overlap(judged).recall
    assert [found[name].mean() for name in ("all", "small", "medium", "large")] == pytest.approx(
        reference.stats[[8, 9, 10, 11]].tolist(), abs=1e-12
    )
    recall = reference.eval["recall"][:, :, 1, 2]
    assert found["small"] == pytest.approx(recall[:, (recall > -1).all(axis=0)].mean(axis=1), abs=1e-12)


def test_an_iou_on_the_threshold_is_in_the_first_bin(scene: Callable[..., Judged]) -> None:
    """In COCO's arithmetic it is 0.5; of the corners it is the last bit below."""
    whole, half = (206.0, 195.5, 206.8, 117.3), (206.0, 195.5, 206.8, 58.65)
    result = scene([(0, "cup", whole, False)], [(0, "cup", half, 1)])
    assert matched_pairs(result).ious[0] < 0.5
    found = overlap(result)
    assert (found.counts[0], found.matched) == (1, 1)
    assert found.mean == pytest.approx(0.5)


def test_an_area_on_a_border_belongs_to_both_sizes(scene: Callable[..., Judged]) -> None:
    found = overlap(scene([(0, "cup", (0, 0, 32, 32), False)], [(0, "cup", (0, 0, 32, 24), 1)]))
    assert found.per_size == pytest.approx({"small": 0.75, "medium": 0.75, "large": np.nan}, nan_ok=True)
    # at 0.80 it is found no more
    assert found.recall["small"].tolist() == found.recall["medium"].tolist() == [1] * 6 + [0] * 4
    assert found.recall["large"].tolist() == [-1] * 10


def test_nothing_matched(scene: Callable[..., Judged]) -> None:
    found = overlap(scene([(0, "cup", (0, 0, 32, 32), False)], [(0, "cat", (0, 0, 32, 32), 1)])).to_dict()
    assert (found["matched"], found["mean"], found["per_class"]) == (0, None, {"cup": None, "cat": None})
    assert sum(found["counts"]) == 0
