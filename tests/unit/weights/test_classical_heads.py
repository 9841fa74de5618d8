"""Heads of classical detectors keep the rows of the classes that both sides know, by their names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import parse
from detrkit.weights.architecture import require_same_architecture
from detrkit.weights.store import Stored
from detrkit.weights.transfer import summarise, transfer

SMALL = {"short_sides": [64], "max_size": 64}
RESNET = {"backbone": {"name": "resnet18", "weights": "none"}}
BOXES = "network.roi_heads.box_predictor.bbox_pred.weight"
SCORES = "network.roi_heads.box_predictor.cls_score.bias"
DENSE = "network.head.classification_head.cls_logits.weight"
SSD = "network.head.classification_head.module_list.2.1.bias"
# per model: a tensor, labels before the first class, rows of a label in turn, kinds of anchors
HEADS = [
    ({"kind": "faster_rcnn"} | RESNET, SCORES, 1, 1, 1),
    ({"kind": "faster_rcnn"} | RESNET, BOXES, 1, 4, 1),
    ({"kind": "retinanet"} | RESNET, DENSE, 0, 1, 9),
    ({"kind": "fcos"} | RESNET, DENSE, 0, 1, 1),
    ({"kind": "ssdlite320"}, SSD, 1, 1, 6),
]


def build(model: dict[str, Any], names: list[str], seed: int) -> Stored:
    torch.manual_seed(seed)
    experiment = parse({"model": model, "data": SMALL}, "the test")
    categories = tuple(Category(number, name) for number, name in enumerate(names))
    state = dict(build_detector(experiment, categories).state_dict())
    return Stored(experiment, categories, {key: torch.randn_like(v.float()) for key, v in state.items()})


def rows(tensor: Tensor, labels: int, label: int, turn: int, anchors: int) -> Tensor:
    """The rows of a label: ``turn`` in turn for each label, and all labels for each kind of anchor."""
    starts = [(anchor * labels + label) * turn for anchor in range(anchors)]
    return torch.cat([tensor[start : start + turn] for start in starts])


@pytest.mark.parametrize(("model", "name", "first", "turn", "anchors"), HEADS)
def test_rows_follow_the_names_of_the_classes(
    model: dict[str, Any], name: str, first: int, turn: int, anchors: int
) -> None:
    source, target = build(model, ["dog", "cat", "car"], 0), build(model, ["bird", "car"], 1)
    found = transfer(source, target.tensors, target.experiment, target.categories)
    head, old, fresh = found.tensors[name], source.tensors[name], target.tensors[name]
    assert len(old) == (3 + first) * turn * anchors

    def of(tensor: Tensor, classes: int, label: int) -> Tensor:
        return rows(tensor, classes + first, label, turn, anchors)

    assert torch.equal(of(head, 2, first), of(fresh, 2, first))
    assert torch.equal(of(head, 2, first + 1), of(old, 3, first + 2))
    if first:
        assert torch.equal(of(head, 2, 0), of(old, 3, 0)), "the background is the background"
    row = next(row for row in found.rows if row.name == name)
    assert (row.what, row.reason) == ("adapted", "1 of 2 classes by name, the rest fresh")
    by_class = {row.name for row in found.rows if row.what != "carried"}
    assert all(found.tensors[other] is not target.tensors[other] for other in by_class)
    parts = [part for part, *_ in summarise(found.rows)]
    assert any("head" in part or "box_predictor" in part for part in parts)


def test_another_kind_of_detector_is_refused() -> None:
    fcos, detr = build({"kind": "fcos"} | RESNET, ["a"], 0), parse({"model": RESNET}, "the test")
    with pytest.raises(
        DetrkitError, match=r"start\.pth have model\.kind fcos, not detr, which has other parts"
    ):
        require_same_architecture(fcos.experiment, detr, Path("start.pth"))


def test_mask_rcnns_boxes_start_faster_rcnn_but_another_resnet_does_not() -> None:
    mask, faster = (
        parse({"model": {"kind": kind} | RESNET}, "the test") for kind in ("mask_rcnn", "faster_rcnn")
    )
    require_same_architecture(mask, faster, Path("start.pth"))
    deeper = {"backbone": {"name": "resnet34", "weights": "none"}}
    other = parse({"model": {"kind": "faster_rcnn"} | deeper}, "the test")
    with pytest.raises(
        DetrkitError, match=r"model\.backbone\.name resnet18, not resnet34: add --set model\."
    ):
        require_same_architecture(mask, other, Path("start.pth"))


def test_ssds_weights_are_bound_to_the_range_of_its_pixels() -> None:
    trained, random = (
        parse({"model": {"kind": "ssd300", "backbone": {"weights": weights}}, "data": SMALL}, "the test")
        for weights in ("imagenet", "none")
    )
    with pytest.raises(DetrkitError, match=r"model\.backbone\.weights imagenet, not none: add --set"):
        require_same_architecture(trained, random, Path("start.pth"))
