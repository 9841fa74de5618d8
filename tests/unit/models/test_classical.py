"""torchvision's detectors as built from settings: as large as published, frozen and started as told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_weight, mobilenet_v3_large, resnet18
from torchvision.models.detection import ssd
from torchvision.models.vgg import cfgs, make_layers

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector, num_parameters
from detrkit.errors import DetrkitError
from detrkit.models.classical import CoarserLevels
from detrkit.models.pretrained import load_pretrained
from detrkit.settings.experiment import parse, recipe
from detrkit.settings.recipes import recipe_names, recipe_summary

WEIGHTS = {
    "faster_rcnn_r50": "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
    "faster_rcnn_v2_r50": "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
    "mask_rcnn_r50": "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
    "retinanet_r50": "RetinaNet_ResNet50_FPN_Weights.COCO_V1",
    "retinanet_v2_r50": "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1",
    "fcos_r50": "FCOS_ResNet50_FPN_Weights.COCO_V1",
    "ssd300_vgg16": "SSD300_VGG16_Weights.COCO_V1",
    "ssdlite320": "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
}
OF_MASKS = 4 * (9 * 256 * 256 + 256) + (4 * 256 * 256 + 256) + (91 * 256 + 91)
"""Parameters of Mask R-CNN's masks: four convolutions, one that doubles the size, one to the labels."""


def build_with_91_labels(name: str) -> Detector:
    kind = recipe(name).model.kind
    labels = range(0 if kind in ("retinanet", "fcos") else 1, 91)
    with torch.device("meta"):
        return build_detector(recipe(name), tuple(Category(label, f"{label}") for label in labels))


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_recipe_is_as_large_and_as_good_as_torchvision_says(name: str) -> None:
    meta = get_weight(WEIGHTS[name]).meta
    detector = build_with_91_labels(name)
    masks = OF_MASKS if name == "mask_rcnn_r50" else 0
    assert num_parameters(detector)[1] + masks == meta["num_params"]
    published = recipe(name).published
    assert published.ap == meta["_metrics"]["COCO-val2017"]["box_map"]
    assert WEIGHTS[name] in published.source


@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe(name).model.kind != "detr"])
def test_every_recipe_of_a_classical_detector_builds(name: str) -> None:
    assert len(recipe_summary(name)) > 20
    trainable, everything = num_parameters(build_with_91_labels(name))
    assert 0 < trainable <= everything < 100e6


def build(model: dict[str, Any]) -> Detector:
    experiment = parse({"model": model, "data": {"short_sides": [64], "max_size": 64}}, "the test")
    torch.manual_seed(0)
    return build_detector(experiment, (Category(1, "cat"), Category(2, "dog")))


def vgg_features() -> nn.Sequential:
    """VGG-16's, without the classifier that is nine tenths of it."""
    return make_layers(cfgs["D"])


def vgg() -> nn.ModuleDict:
    return nn.ModuleDict({"features": vgg_features()})


def untrained(detector: Detector) -> list[str]:
    found = [name for name, parameter in detector.named_parameters() if not parameter.requires_grad]
    return [name.removeprefix("network.backbone.") for name in found]


@pytest.mark.parametrize(
    ("number", "layers"), [(0, []), (1, ["conv1", "bn1"]), (2, ["conv1", "bn1", "layer1"])]
)
def test_frozen_stages_of_a_resnet_are_not_trained(number: int, layers: list[str]) -> None:
    backbone = {"name": "resnet18", "weights": "none", "norm": "batch", "frozen_stages": number}
    detector = build({"kind": "fcos", "backbone": backbone})
    body = dict(resnet18().named_parameters())
    expected = [f"body.{name}" for name in body if name.startswith(tuple(f"{layer}." for layer in layers))]
    assert sorted(untrained(detector)) == sorted(expected)
    detector.train()
    running = detector.backbone.get_submodule("bn1")
    assert running.training == (number == 0)
    assert detector.backbone.get_submodule("layer4").training


def test_frozen_stages_of_ssd_are_those_of_torchvision() -> None:
    """Which keeps a layer if it comes after the fourth of VGG's halvings from the end."""
    theirs = ssd._vgg_extractor(SimpleNamespace(features=vgg_features()), highres=False, trainable_layers=2)
    detector = build({"kind": "ssd300", "backbone": {"weights": "none", "frozen_stages": 3}})
    expected = [name for name, parameter in theirs.named_parameters() if not parameter.requires_grad]
    assert untrained(detector) == expected
    assert expected


@pytest.mark.parametrize(
    ("model", "network"),
    [
        ({"kind": "fcos", "backbone": {"name": "resnet18"}}, resnet18),
        ({"kind": "ssd300", "backbone": {}}, vgg),
        ({"kind": "ssdlite320", "backbone": {}}, mobilenet_v3_large),
    ],
    ids=["fcos", "ssd300", "ssdlite320"],
)
def test_a_file_of_an_imagenet_network_starts_the_backbone(
    model: dict[str, Any], network: Any, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    state = network().state_dict()
    path = tmp_path / "imagenet.pth"
    torch.save(state, path)
    model["backbone"] = model["backbone"] | {"weights": str(path)}
    detector = build(model)
    settings = parse(
        {"model": model, "data": {"short_sides": [64], "max_size": 64}}, "the test"
    ).model.backbone
    load_pretrained(detector.backbone, settings)
    first = next(m for m in detector.backbone.modules() if hasattr(m, "weight") and m.weight.ndim == 4)
    assert torch.equal(first.weight, next(iter(state.values())))
    # every feature is there, under whatever name
    held = {tuple(t.flatten()[:4].tolist()) for t in detector.backbone.state_dict().values() if t.ndim == 4}
    wanted = [t for name, t in state.items() if t.ndim == 4]
    assert all(tuple(t.flatten()[:4].tolist()) in held for t in wanted)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.pth"
    torch.save(resnet18().state_dict(), path)
    model = {"kind": "ssdlite320", "backbone": {"weights": str(path)}}
    settings = parse(
        {"model": model, "data": {"short_sides": [64], "max_size": 64}}, "the test"
    ).model.backbone
    with pytest.raises(DetrkitError, match=r"imagenet\.pth does not hold the weights of mobilenet_v3_large"):
        load_pretrained(build(model).backbone, settings)


def test_group_normalisation_is_everywhere_in_the_second_version() -> None:
    backbone = {"name": "resnet18", "weights": "none"}
    detector = build({"kind": "faster_rcnn", "version": 2, "backbone": backbone})
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    pyramid = detector.get_submodule("network.backbone.fpn")
    assert any(isinstance(module, nn.GroupNorm) for module in pyramid.modules())


def test_the_coarsest_levels_learn_in_bfloat16_where_they_have_one_place() -> None:
    """Against float32; torch itself gives gradients from memory that was never written there."""
    levels = CoarserLevels(256, 256)
    maps = torch.randn(1, 256, 2, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for enabled in (False, True):
        levels.zero_grad()
        used = [torch.full((n,), torch.nan) for n in (256, 4096, 589824) for _ in range(9)]
        del used
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            answers, names = levels([maps], [maps], ["0"])
        assert names == ["0", "p6", "p7"]
        sum(answer.float().square().sum() for answer in answers).backward()
        found.append([parameter.grad.clone() for parameter in levels.parameters()])
    for exact, rounded in zip(*found, strict=True):
        torch.testing.assert_close(rounded, exact)
