"""``detrkit weights transfer``: what it writes, what it tells, and that training starts from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from typer.testing import CliRunner, Result

from detrkit.cli.main import app
from detrkit.inference.load import load, read

DEEPER = {"model.backbone.name": "resnet34"}


def run(*words: object, settings: dict[str, object]) -> Result:
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return CliRunner().invoke(app, [str(word) for word in (*words, *assignments)])


def transfer(source: Path, out: Path, settings: dict[str, object], *words: object) -> dict[str, Any]:
    ran = run("weights", "transfer", source, "--to", "detr_r50", "--out", out, *words, settings=settings)
    assert ran.exit_code == 0, ran.output
    report = json.loads(out.with_suffix(".json").read_text())
    return report | {"output": " ".join(ran.output.split())}


def test_a_deeper_network_and_its_account(
    checkpoint: Path, small_detr: dict[str, object], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "r34.safetensors"
    report = transfer(checkpoint, out, small_detr | DEEPER)
    assert load(out).backbone.get_submodule("layer3.5")
    source, target = read(checkpoint), read(out)
    rows = report["tensors"]
    assert sorted(row["name"] for row in rows) == sorted(target.tensors)
    assert {row["source"] for row in rows} - {None} == set(source.tensors)
    assert {row["what"] for row in rows} == {"carried", "grown"}
    assert report["settings"] == {"model.backbone.name": {"there": "resnet18", "here": "resnet34"}}
    assert "answers differ by at most 0.0e+00 in their logits" in report["output"]
    assert "model.backbone.name was resnet18 and is resnet34." in report["output"]


def test_imagenets_backbone_and_the_rest_of_the_source(
    checkpoint: Path, small_detr: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    resnet = torchvision.models.resnet34()
    torch.save(resnet.state_dict(), tmp_path / "resnet34.pth")
    settings = small_detr | DEEPER | {"model.backbone.weights": tmp_path / "resnet34.pth"}
    out = tmp_path / "r34.safetensors"
    report = transfer(checkpoint, out, settings, "--plan", "imagenet")
    source, target = read(checkpoint).tensors, read(out).tensors
    assert torch.equal(
        target["network.backbone.layer3.5.conv2.weight"], resnet.get_parameter("layer3.5.conv2.weight")
    )
    rest = [name for name in target if not name.startswith("network.backbone.")]
    assert all(torch.equal(target[name], source[name]) for name in rest)
    told = {(row["what"], row["name"].split(".")[1]) for row in report["tensors"]}
    assert told == {
        ("fresh", "backbone"),
        ("dropped", "backbone"),
        ("carried", "encoder"),
        ("carried", "decoder"),
    }


@pytest.mark.parametrize("taken", ["new.safetensors", "new.json"])
def test_nothing_is_overwritten(
    checkpoint: Path, small_detr: dict[str, object], tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).write_text("mine")
    words = ("weights", "transfer", checkpoint, "--to", "detr_r50", "--out", tmp_path / "new.safetensors")
    ran = run(*words, settings=small_detr)
    assert ran.exit_code == 2
    assert f"{taken} exists already" in ran.output
    assert (tmp_path / taken).read_text() == "mine"


def test_imagenet_without_weights_is_refused(
    checkpoint: Path, small_detr: dict[str, object], tmp_path: Path
) -> None:
    words = ("weights", "transfer", checkpoint, "--to", "detr_r50", "--out", tmp_path / "new.safetensors")
    ran = run(*words, "--plan", "imagenet", settings=small_detr)
    assert ran.exit_code == 2
    assert "which is none here" in ran.output


def test_training_refuses_another_architecture_and_starts_from_what_was_transferred(
    checkpoint: Path, small_detr: dict[str, object], tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    data, out = write_coco(tmp_path / "data", train=[1], val=[1]), tmp_path / "r34.safetensors"
    settings = small_detr | DEEPER | {"train.max_steps": 1, "data.batch_size": 1}
    words = ("train", "detr_r50", "--data", data, "--out", tmp_path / "run", "--init")
    ran = run(*words, checkpoint, settings=settings)
    assert ran.exit_code == 2
    assert f"`detrkit weights transfer {checkpoint} --to RECIPE" in " ".join(ran.output.split())

    transfer(checkpoint, out, settings)
    ran = run(*words, out, settings=settings)
    assert ran.exit_code == 0, ran.output
    assert {row["what"] for row in json.loads((tmp_path / "run" / "init.json").read_text())["tensors"]} == {
        "carried"
    }
