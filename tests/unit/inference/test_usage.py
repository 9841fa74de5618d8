"""What queries are used for, against what the network's own output says of each image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detrkit.catalog import Catalog, Category
from detrkit.data.collate import normalise
from detrkit.data.formats.coco import read_coco
from detrkit.data.images import read_image
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.build import build_detector
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.usage import Found, QueryUsage, query_usage
from detrkit.settings.experiment import recipe
from detrkit.structures import Images


@pytest.fixture
def catalog(tmp_path: Path, write_coco: Callable[..., Path]) -> Catalog:
    root = write_coco(tmp_path / "data", val=[1, 0, 2, 1, 1])
    return read_coco(root / "annotations" / "instances_val.json", root / "val")


def build(small_detr: dict, scoring: str) -> DetrDetector:
    torch.manual_seed(0)
    settings = small_detr | {"scoring.kind": scoring, "data.eval_short_side": 64}
    built = build_detector(recipe("detr_r50", settings), tuple(Category(n, str(n)) for n in range(3)))
    assert isinstance(built, DetrDetector)
    head = built.network.get_submodule("decoder.heads")
    for weight in head.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=3 * weight.shape[1] ** -0.5)
    return built.eval()


@pytest.mark.parametrize("scoring", ["softmax", "focal"])
def test_columns_are_those_counted_image_by_image(small_detr: dict, catalog: Catalog, scoring: str) -> None:
    detector = build(small_detr, scoring)
    show = evaluation_transform(detector.image_size)
    everything = []
    for index in range(len(catalog)):
        pixels = normalise(show(read_image(catalog.path(index)))[None])
        with torch.no_grad():
            output = detector.network(Images(pixels))
        logits = output.logits[-1, 0]
        chances = logits.softmax(-1)[:, :-1] if scoring == "softmax" else logits.sigmoid()
        for query, (row, box) in enumerate(zip(chances, output.boxes[-1, 0], strict=True)):
            everything.append((query, int(row.argmax()), float(row.max()), box.numpy()))
    threshold = float(np.mean(sorted(score for _, _, score, _ in everything)[11:13]))  # no answer is near it
    expected = [one for one in everything if one[2] >= threshold]
    usage = query_usage(detector, catalog, threshold=threshold, batch_size=2)
    queries = np.array([query for query, *_ in expected])
    assert len(queries) == 13
    assert usage.images == 5
    assert usage.answers.tolist() == np.bincount(queries, minlength=5).tolist()
    assert usage.found.queries.tolist() == queries.tolist()
    assert usage.found.labels.tolist() == [label for _, label, _, _ in expected]
    np.testing.assert_allclose(usage.found.scores, [score for *_, score, _ in expected], atol=1e-5)
    boxes = np.stack([box for *_, box in expected])
    np.testing.assert_allclose(usage.found.boxes, boxes, atol=1e-5)
    for query in range(5):
        own = boxes[queries == query, 2:]
        if len(own):
            np.testing.assert_allclose(usage.mean_size[query], own.mean(0), atol=1e-5)
        else:
            assert np.isnan(usage.mean_size[query]).all()
    assert usage.dead.tolist() == [query not in queries for query in range(5)]


def test_no_more_answers_are_kept_than_asked_for_and_all_are_counted(
    small_detr: dict, catalog: Catalog
) -> None:
    detector = build(small_detr, "focal")
    usage = query_usage(detector, catalog, threshold=0.0, most_kept=4)
    assert usage.answers.tolist() == [5] * 5
    assert len(usage.found.queries) == len(usage.found.boxes) == 4
    assert usage.dominating.all()
    assert query_usage(detector, catalog, threshold=0.0, every=2).images == 3


def test_a_detector_that_is_never_sure_uses_no_query(small_detr: dict, catalog: Catalog) -> None:
    usage = query_usage(build(small_detr, "softmax"), catalog, threshold=1.0)
    assert usage.dead.all()
    assert usage.to_dict()["mean_size"] == [None] * 5
    assert len(usage.found.boxes) == 0


def test_share_is_of_the_images() -> None:
    nothing = np.zeros(0, np.int64)
    found = Found(nothing, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), nothing)
    usage = QueryUsage(4, 0.5, np.array([0, 2, 3]), np.zeros((3, 2)), found)
    assert usage.share.tolist() == [0, 0.5, 0.75]
    assert usage.dead.tolist() == [True, False, False]
    assert usage.dominating.tolist() == [False, False, True]
