"""Fine-tuning from a checkpoint of 91 labels on other classes."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import detrkit
from detrkit.catalog import Category
from detrkit.cli.main import app
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import read
from detrkit.settings.experiment import recipe
from detrkit.training.budget import measure_steps
from detrkit.training.events import Started
from detrkit.training.prepare import prepare
from detrkit.weights import official
from detrkit.weights.coco import COCO_91
from detrkit.weights.store import Stored

HEAD = "decoder.heads.classes"


@pytest.fixture
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    return small_detr | {"model.backbone.weights": "imagenet", "data.batch_size": 2, "train.max_steps": 1}


@pytest.fixture
def checkpoint(tmp_path: Path, settings: dict[str, object]) -> Path:
    """A small DETR with random weights and COCO's 91 labels, in the original's layout."""
    torch.manual_seed(0)
    experiment = recipe("detr_r50", settings)
    state = dict(build_detector(experiment, COCO_91).state_dict())
    official.write(tmp_path / "coco.pth", Stored(experiment, COCO_91, state))
    return tmp_path / "coco.pth"


@pytest.mark.slow
def test_bccd_with_one_command(
    tmp_path: Path, shared: Path, checkpoint: Path, settings: dict[str, object]
) -> None:
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    splits = ["--set", "data.train_split=trainval", "--set", "data.val_split=test"]
    command = [
        "train",
        "detr_r50",
        "--data",
        shared / "bccd",
        "--init",
        checkpoint,
        "--out",
        tmp_path / "run",
    ]
    done = CliRunner().invoke(app, [str(word) for word in [*command, *splits, *assignments]])
    assert done.exit_code == 0, done.output
    assert "0 of 3 classes by name, the rest fresh" in " ".join(done.output.split())

    tensors = json.loads((tmp_path / "run" / "init.json").read_text())["tensors"]
    source = read(checkpoint).tensors
    assert {row["name"] for row in tensors} == set(source), "every tensor of both sides is told"
    told = Counter(row["what"] for row in tensors)
    assert told == {"carried": len(source) - 2, "adapted": 2}
    stored = read(tmp_path / "run")
    assert [category.name for category in stored.categories] == ["Platelets", "RBC", "WBC"]
    assert stored.tensors[f"network.{HEAD}.weight"].shape == (4, 32)


def test_rows_of_shared_names_are_equal_to_the_bit(
    tmp_path: Path, shared: Path, checkpoint: Path, settings: dict[str, object]
) -> None:
    source = shared / "coco-mini"
    tree = json.loads((source / "annotations" / "instances_val2017.json").read_text())
    wanted = {"dog": 40, "person": 10, "car": 30}
    own_id = {entry["id"]: wanted[entry["name"]] for entry in tree["categories"] if entry["name"] in wanted}
    tree["categories"] = [{"id": number, "name": name} for name, number in wanted.items()]
    tree["categories"].append({"id": 20, "name": "unicorn"})
    tree["annotations"] = [
        entry | {"category_id": own_id[entry["category_id"]]}
        for entry in tree["annotations"]
        if entry["category_id"] in own_id
    ]
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (data / split).symlink_to(source / "val2017")
        (data / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))

    experiment = recipe("detr_r50", settings)
    run = prepare(experiment, data, tmp_path / "run", False, checkpoint, measure_steps)
    names = [category.name for category in run.detector.categories]
    assert names == ["person", "unicorn", "car", "dog"]
    coco_label = {category.name: label for label, category in enumerate(COCO_91)} | {"no object": 91}
    state = run.detector.state_dict()
    for part in ("weight", "bias"):
        old, new = read(checkpoint).tensors[f"network.{HEAD}.{part}"], state[f"network.{HEAD}.{part}"]
        for label, name in enumerate([*names, "no object"]):
            assert (name == "unicorn") != torch.equal(new[label], old[coco_label.get(name, 0)])


def test_a_resumed_run_takes_no_other_weights(
    tmp_path: Path, checkpoint: Path, settings: dict[str, object], write_coco: Callable[..., Path]
) -> None:
    data = write_coco(tmp_path / "data", train=[1], val=[1])
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [
        "train",
        "detr_r50",
        "--data",
        data,
        "--init",
        checkpoint,
        "--out",
        tmp_path / "run",
        *assignments,
    ]
    assert CliRunner().invoke(app, [str(word) for word in command]).exit_code == 0
    again = CliRunner().invoke(app, [str(word) for word in [*command, "--resume"]])
    assert again.exit_code == 0, again.output

    other = shutil.copy(checkpoint, tmp_path / "other.safetensors")
    command[command.index(checkpoint)] = other
    done = CliRunner().invoke(app, [str(word) for word in [*command, "--resume"]])
    assert done.exit_code == 2
    assert f"started from {checkpoint}" in done.output
    assert f"leave out --init {other}" in done.output


def test_a_run_killed_before_its_first_save_starts_again_from_the_same_weights(
    tmp_path: Path, checkpoint: Path, settings: dict[str, object], write_coco: Callable[..., Path]
) -> None:
    data = write_coco(tmp_path / "data", train=[1, 2], val=[1])
    experiment = detrkit.recipe("detr_r50", settings | {"train.max_steps": 2, "train.trackers": []})
    list(detrkit.fit(experiment, data, tmp_path / "alone", init=checkpoint))
    killed = detrkit.fit(experiment, data, tmp_path / "killed", init=checkpoint)
    next(killed)
    killed.close()
    assert not (tmp_path / "killed" / "last").exists()

    started, *_ = list(detrkit.fit(experiment, data, tmp_path / "killed", resume=True))
    assert isinstance(started, Started)
    assert "No step of this run was saved before: it starts from its beginning." in started.notes
    for name in ("last/tensors-00000002.safetensors", "init.json", "experiment.toml"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    with pytest.raises(DetrkitError, match="already holds a run"):
        next(detrkit.fit(experiment, data, tmp_path / "killed"))


def test_weights_are_inspected_and_converted(tmp_path: Path, checkpoint: Path) -> None:
    def run(*words: object) -> str:
        done = CliRunner().invoke(app, ["weights", *map(str, words)])
        assert done.exit_code == 0, done.output
        return done.output

    told = run("inspect", checkpoint)
    assert "80 categories: person, bicycle" in told
    assert "11 more labels" in told
    run("convert", checkpoint, tmp_path / "ours.safetensors")
    run("convert", tmp_path / "ours.safetensors", tmp_path / "again.pth")
    first, again = read(checkpoint), read(tmp_path / "again.pth")
    assert again.categories == first.categories == COCO_91
    assert all(isinstance(category, Category) for category in again.categories)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in first.tensors.items())
    done = CliRunner().invoke(app, ["weights", "convert", str(checkpoint), str(tmp_path / "again.pth")])
    assert done.exit_code == 2
    assert "exists already" in done.output
