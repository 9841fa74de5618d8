"""Queries that are matched in images, against every possible pairing of each image alone."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from detrkit.catalog import Catalog, Category
from detrkit.data.collate import normalise
from detrkit.data.formats.coco import read_coco
from detrkit.data.images import read_image
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.build import build_detector
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.matched import matched_queries
from detrkit.settings.experiment import recipe
from detrkit.structures import Images

COUNTS = [1, 0, 3, 2, 0, 2]


@pytest.fixture
def catalog(tmp_path: Path, write_coco: Callable[..., Path]) -> Catalog:
    root = write_coco(tmp_path / "data", train=COUNTS)
    return read_coco(root / "annotations" / "instances_train.json", root / "train")


@pytest.fixture
def detector(small_detr: dict) -> DetrDetector:
    torch.manual_seed(3)
    settings = small_detr | {"data.eval_short_side": 64, "model.transformer.dropout": 0.3}
    built = build_detector(recipe("detr_r50", settings), tuple(Category(n, str(n)) for n in range(3)))
    assert isinstance(built, DetrDetector)
    for weight in built.network.get_submodule("decoder.heads").parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=3 * weight.shape[1] ** -0.5)
    return built


@torch.no_grad()
def cheapest(detector: DetrDetector, catalog: Catalog, index: int) -> list[int]:
    """The queries of an image's objects, by trying all pairings: costs 1, 5 and 2 (DETR, appendix A.4)."""
    pixels = normalise(evaluation_transform(detector.image_size)(read_image(catalog.path(index)))[None])
    output = detector.network(Images(pixels))
    chances, boxes = output.logits[-1, 0].softmax(-1), output.boxes[-1, 0]
    rows = catalog.rows(index)
    true = box_convert(torch.from_numpy(catalog.boxes[rows] / 64).float(), "xyxy", "cxcywh")
    labels = torch.from_numpy(catalog.labels[rows]).long()
    giou = generalized_box_iou(*(box_convert(one, "cxcywh", "xyxy") for one in (boxes, true)))
    cost = 5 * torch.cdist(boxes, true, p=1) - chances[:, labels] - 2 * giou
    pairings = permutations(range(len(boxes)), len(labels))
    return list(min(pairings, key=lambda queries: sum(cost[query, n] for n, query in enumerate(queries))))


def test_each_object_has_the_query_of_the_cheapest_pairing(detector: DetrDetector, catalog: Catalog) -> None:
    detector.train()
    state = torch.random.get_rng_state()
    found = matched_queries(detector, catalog, batch_size=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert detector.network.training
    assert [image for image, _ in found] == catalog.image_ids.tolist()
    detector.eval()
    expected = [cheapest(detector, catalog, index) for index in range(len(catalog))]
    assert [queries for _, queries in found] == expected
    assert len({query for queries in expected for query in queries}) > 1


def test_every_second_image_is_the_same_whoever_looks(detector: DetrDetector, catalog: Catalog) -> None:
    alone = matched_queries(detector, catalog, every=2)
    assert [len(queries) for _, queries in alone] == COUNTS[::2]
    shares = [matched_queries(detector, catalog, every=2, rank=rank, world=2) for rank in range(2)]
    assert sorted(found for share in shares for found in share) == sorted(alone)


def test_an_object_beyond_the_queries_has_none(
    detector: DetrDetector, tmp_path: Path, write_coco: Callable
) -> None:
    root = write_coco(tmp_path / "crowded", train=[7])
    catalog = read_coco(root / "annotations" / "instances_train.json", root / "train")
    ((_, queries),) = matched_queries(detector, catalog)
    assert sorted(queries) == [-1, -1, 0, 1, 2, 3, 4]
