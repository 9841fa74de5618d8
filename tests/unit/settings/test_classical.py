"""Settings of classical detectors: torchvision's defaults, and what of DETR's they refuse."""

import inspect
from typing import Any

import pytest
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD

from detrkit.errors import DetrkitError
from detrkit.settings.classical import (
    FasterRcnnSettings,
    FcosSettings,
    MaskRcnnSettings,
    RetinaNetSettings,
    Ssd300Settings,
)
from detrkit.settings.experiment import Experiment, detr_settings, parse, parse_overrides, recipe
from detrkit.settings.model import DetrSettings
from detrkit.settings.section import describe
from detrkit.settings.training import AdamWSettings, SgdSettings

SMALL = {"short_sides": [64], "max_size": 64}


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(DetrkitError) as caught:
        parse({"data": SMALL} | tree, "mine.toml")
    text = str(caught.value)
    assert text.startswith("mine.toml: ")
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("settings", "theirs", "prefix"),
    [
        (FasterRcnnSettings(), FasterRCNN, "box_"),
        (MaskRcnnSettings(), FasterRCNN, "box_"),
        (RetinaNetSettings(), RetinaNet, ""),
        (FcosSettings(), FCOS, ""),
        (Ssd300Settings(), SSD, ""),
    ],
)
def test_what_is_kept_of_an_image_is_by_default_what_torchvision_keeps(
    settings: Any, theirs: Any, prefix: str
) -> None:
    defaults = inspect.signature(theirs).parameters
    assert settings.score_threshold == defaults[f"{prefix}score_thresh"].default
    assert settings.nms_iou == defaults[f"{prefix}nms_thresh"].default
    assert settings.detections == defaults[f"{prefix}detections_per_img"].default


def test_so_it_is_for_ssdlite() -> None:
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    model = recipe("ssdlite320").model
    assert (model.score_threshold, model.nms_iou, model.detections) == (
        network.score_thresh,
        network.nms_thresh,
        network.detections_per_img,
    )


def test_settings_that_name_no_detector_mean_a_detr() -> None:
    assert isinstance(Experiment().model, DetrSettings)
    assert parse({"model": {"backbone": {"name": "resnet18"}}}, "mine.toml").model.kind == "detr"


@pytest.mark.parametrize(
    ("tree", "name", "expected"),
    [
        (
            {"model": {"kind": "fcos"}, "scoring": {"no_object": 0.2}},
            "scoring.no_object",
            "only model.kind 'detr'",
        ),
        ({"model": {"kind": "fcos"}, "scoring": {"kind": "focal"}}, "scoring.kind", "the kind is 'fcos'"),
        ({"model": {"kind": "fcos"}, "matching": {"l1": 3}}, "matching.l1", "only model.kind 'detr'"),
        ({"model": {"kind": "fcos"}, "loss": {"giou": 3}}, "loss.giou", "only model.kind 'detr'"),
        (
            {"model": {"kind": "retinanet", "encoder": {"layers": 3}}},
            "model.encoder",
            "only kind 'detr' has this setting, but the kind is 'retinanet'",
        ),
        (
            {"model": {"kind": "retinanet", "backbone": {"dilation": True}}},
            "model.backbone.dilation",
            "only kind 'detr' has this setting, but the kind is 'retinanet'",
        ),
        (
            {"model": {"kind": "ssd300", "backbone": {"norm": "group"}}},
            "model.backbone.norm",
            "the kind is 'ssd300'",
        ),
        (
            {"model": {"kind": "fcos", "version": 2}},
            "model.version",
            "'faster_rcnn' or 'mask_rcnn' or 'retinanet'",
        ),
        ({"model": {"anchors": [1, 2, 3, 4, 5]}}, "model.anchors", "but the kind is 'detr'"),
        ({"model": {"kind": "yolo"}}, "model.kind = 'yolo'", "'faster_rcnn'"),
        ({"model": {"kind": "faster_rcnn", "version": 2}}, "norm is 'frozen'", "take 'batch'"),
        ({"model": {"kind": "ssd300"}, "data": {}}, "max_size is 1333", "at most 300 x 300"),
        (
            {"model": {"kind": "ssd300"}, "train": {"activation_checkpointing": True}},
            "activation_checkpointing",
            "no residual blocks",
        ),
        ({"optim": {"momentum": 0.5}}, "optim.momentum", "only kind 'sgd'"),
    ],
    ids=str,
)
def test_a_setting_that_would_do_nothing_is_refused(tree: dict[str, Any], name: str, expected: str) -> None:
    text = refusal(tree)
    assert name in text
    assert expected in text


def test_what_is_for_detr_only_names_the_detector() -> None:
    with pytest.raises(DetrkitError, match=r"growing is for DETR only, .* model\.kind 'fcos'"):
        detr_settings(recipe("fcos_r50"), "growing")
    assert detr_settings(recipe("detr_r50"), "growing") == recipe("detr_r50").model


def test_an_optimiser_has_the_settings_of_its_kind() -> None:
    assert Experiment().optim == AdamWSettings()
    assert recipe("detr_r50", parse_overrides(["optim.kind=sgd"])).optim == SgdSettings()


def test_the_meaning_of_every_setting_is_told() -> None:
    for kind in ("faster_rcnn", "mask_rcnn", "retinanet", "fcos", "ssd300", "ssdlite320"):
        for name, _, meaning in describe(parse({"model": {"kind": kind}, "data": SMALL}, "mine.toml")):
            assert len(meaning) > 5, name
