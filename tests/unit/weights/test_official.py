"""The original's checkpoints: what their names, shapes and arguments say, and that none of them runs code."""

import argparse
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import load, read
from detrkit.settings.experiment import Experiment, recipe
from detrkit.weights import official
from detrkit.weights.store import Stored

UNDILATED = {"model.backbone.dilation": False}
RESNET50 = {"model.backbone.name": "resnet50"}
SMALL = {
    "model.backbone.name": "resnet18",
    "model.transformer.width": 32,
    "model.transformer.feedforward": 48,
}


def build(overrides: dict[str, object], num_classes: int = 3, seed: int = 0) -> Stored:
    torch.manual_seed(seed)
    experiment = recipe("detr_r50", SMALL | overrides)
    categories = tuple(Category(number, f"class {number}") for number in range(num_classes))
    return Stored(experiment, categories, dict(build_detector(experiment, categories).state_dict()))


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a state in the original's layout, with arguments or without, and nothing of ours beside it."""

    def write(stored: Stored, arguments: dict[str, Any] | None = None) -> Path:
        official.write(tmp_path / "ours.pth", stored)
        content: dict[str, Any] = {"model": torch.load(tmp_path / "ours.pth")["model"]}
        if arguments is not None:
            content["args"] = argparse.Namespace(**arguments)
        torch.save(content, tmp_path / "checkpoint.pth")
        return tmp_path / "checkpoint.pth"

    return write


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        RESNET50,
        {"model.backbone.name": "resnet101", "model.encoder.layers": 1},
        {"model.backbone.name": "resnet34", "model.encoder.layers": 2},
        {"model.transformer.pre_norm": True, "model.decoder.queries": 7},
        {"model.encoder.position": "learned", "model.decoder.layers": 3},
    ],
)
def test_the_architecture_is_read_from_names_and_shapes(
    overrides: dict[str, object], save: Callable[..., Path]
) -> None:
    stored = build(overrides)
    found = read(save(stored), UNDILATED)
    assert found.experiment.model == stored.experiment.model
    assert found.tensors.keys() == stored.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in stored.tensors.items())


def test_arguments_say_what_no_shape_shows(save: Callable[..., Path]) -> None:
    path = save(
        build(RESNET50), {"dilation": True, "nheads": 4, "dropout": 0.0, "lr": 1e-4, "output_dir": ""}
    )
    model = read(path).experiment.model
    assert model.backbone.dilation
    assert model.transformer.heads == 4
    assert model.transformer.dropout == 0


def test_without_arguments_dc5_must_be_said(save: Callable[..., Path]) -> None:
    path = save(build(RESNET50))
    with pytest.raises(DetrkitError, match=r"DC5.*--set model\.backbone\.dilation=true or false"):
        read(path)
    assert read(path, {"model.backbone.dilation": True}).experiment.model.backbone.dilation


def test_a_release_is_known_by_its_hash(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(build(RESNET50))
    start = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(official.RELEASES, start, ("detr-r50-dc5", True))
    assert read(path).experiment.model.backbone.dilation


def test_the_releases_have_91_labels_of_which_coco_used_80(save: Callable[..., Path]) -> None:
    categories = read(save(build({}, num_classes=91)), UNDILATED).categories
    assert [category.id for category in categories] == list(range(91))
    assert sum(category.used for category in categories) == 80
    assert {category.id for category in categories if not category.used} == {
        0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83,
    }  # fmt: skip
    assert categories[1].name == "person"
    assert categories[90].name == "toothbrush"


@pytest.mark.parametrize("dilation", [True, False])
def test_ours_to_original_and_back_is_the_same_to_the_bit(tmp_path: Path, dilation: bool) -> None:
    stored = build(RESNET50 | {"model.backbone.dilation": dilation, "optim.lr": 3e-4})
    official.write(tmp_path / "there.pth", stored)
    back = read(tmp_path / "there.pth")
    assert back.experiment == stored.experiment
    assert back.categories == stored.categories
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in stored.tensors.items())
    load(tmp_path / "there.pth")


class Runs:
    """A pickle that makes a file when it is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["model", "args", "whole", "raw pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused(
    tmp_path: Path, save: Callable[..., Path], place: str
) -> None:
    trap, mark = tmp_path / "trap.pth", tmp_path / "mark"
    model = torch.load(save(build({})))["model"]
    if place == "model":
        torch.save({"model": model | {"x": Runs(mark)}}, trap)
    elif place == "args":
        torch.save({"model": model, "args": argparse.Namespace(x=Runs(mark))}, trap)
    elif place == "whole":
        torch.save(Runs(mark), trap)
    else:
        trap.write_bytes(pickle.dumps({"model": model, "args": Runs(mark)}))
    with pytest.raises(
        DetrkitError, match=r"trap\.pth (wants to run 'posix\.mkdir'|is not a readable file of weights)"
    ):
        read(trap, UNDILATED)
    assert not mark.exists()


def broken(model: dict[str, torch.Tensor], how: str) -> Any:
    match how:
        case "missing":
            return {
                "model": {
                    name: tensor for name, tensor in model.items() if name != "bbox_embed.layers.1.bias"
                }
            }
        case "extra":
            return {"model": model | {"mask_head.lay1.weight": torch.zeros(1)}}
        case "shape":
            return {"model": model | {"input_proj.weight": torch.zeros(32, 9, 1, 1)}}
        case "other":
            return {"state_dict": model}
        case "long":
            return {"model": model | {"x" * 9000: model["class_embed.bias"]}}
        case "resnet":
            return {"model": {name: tensor for name, tensor in model.items() if "layer3" not in name}}
        case "empty":
            return {"model": {}}
        case _:
            return [1, 2]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "lacks the tensor 'bbox_embed.layers.1.bias'"),
        ("extra", "1 tensors that its model has no use for, such as 'mask_head.lay1.weight'"),
        ("long", r"no use for, such as 'x+\.\.\.x+'\.$"),
        ("shape", r"'input_proj.weight' has shape \(32, 9, 1, 1\), expected \(32, 512, 1, 1\)"),
        ("other", "no state dict 'model'"),
        ("resnet", "layer3 has 0 blocks"),
        ("empty", "layer3 has 0 blocks"),
        ("list", "no state dict 'model'"),
    ],
)
def test_a_file_that_does_not_fit_is_told_in_a_sentence(
    tmp_path: Path, save: Callable[..., Path], how: str, words: str
) -> None:
    path = tmp_path / "broken.pth"
    torch.save(broken(torch.load(save(build({})))["model"], how), path)
    with pytest.raises(DetrkitError, match=words) as caught:
        load(path, overrides=UNDILATED)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut", b"\x80\x02."])
def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cut.pth").write_bytes(content)
    with pytest.raises(DetrkitError, match=r"cut\.pth"):
        load(tmp_path / "cut.pth")


def test_group_norm_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=r"the original has model\.backbone\.norm frozen only, not group"):
        official.write(tmp_path / "x.pth", build({"model.backbone.weights": "none"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "name", "found"),
    [
        ({"model.decoder.kind": "conditional"}, "model.decoder.kind plain", "conditional"),
        ({"model.decoder.kind": "anchor"}, "model.decoder.kind plain", "anchor"),
        ({"scoring.kind": "focal"}, "scoring.kind softmax", "focal"),
        ({"model.backbone.levels": ["layer3"]}, "model.backbone.levels ['layer4']", "['layer3']"),
        (
            {"model.backbone.levels": ["layer3", "layer4"]},
            "model.backbone.levels ['layer4']",
            "['layer3', 'layer4']",
        ),
        ({"model.transformer.activation": "prelu"}, "model.transformer.activation relu", "prelu"),
        ({"model.encoder.temperature": 20}, "model.encoder.temperature 10000", "20.0"),
        ({"model.encoder.modulate_position": True}, "model.encoder.modulate_position False", "True"),
        ({"model.backbone.norm": "batch"}, "model.backbone.norm frozen", "batch"),
    ],
    ids=str,
)
def test_what_is_not_detr_is_not_written(
    tmp_path: Path, overrides: dict[str, object], name: str, found: str
) -> None:
    stored = build(overrides)
    path = tmp_path / "there.pth"
    with pytest.raises(DetrkitError) as caught:
        official.write(path, stored)
    assert str(caught.value) == (
        f"{path} cannot be written: the original has {name} only, not {found}; a .safetensors file of "
        "detrkit's holds every detector."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.transformer.pre_norm": True, "model.encoder.position": "learned"},
        {"model.encoder.layers": 0, "model.decoder.layers": 1, "model.decoder.queries": 3},
        {"scoring.no_object": 0.3, "model.transformer.dropout": 0.0, "matching.l1": 1},
    ],
    ids=str,
)
def test_a_detr_of_other_sizes_is_written_and_read(tmp_path: Path, overrides: dict[str, object]) -> None:
    stored = build(overrides)
    official.write(tmp_path / "there.pth", stored)
    back = read(tmp_path / "there.pth")
    assert back.experiment == stored.experiment
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in stored.tensors.items())


def test_settings_of_the_file_can_be_changed(save: Callable[..., Path]) -> None:
    overrides = UNDILATED | {"data.eval_short_side": 320}
    assert load(save(build({})), overrides=overrides).image_size.short_side == 320
    assert isinstance(read(save(build({})), overrides).experiment, Experiment)
