"""How a step is split between processes and micro-batches, or a run by interruptions, changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import detrkit
from detrkit.training.events import Event, Interrupted, Started, Stepped, Validated

COUNTS = [3, 0, 7, 1, 2, 5, 1, 4, 0, 2, 6, 1, 3, 2, 1, 4, 2, 3]
"""Objects per image; two images have none, and one more than there are queries."""


def train(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> list[Event]:
    return list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=resume))


@pytest.fixture(autouse=True)
def tell_matches_of_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of such short runs, none would be told."""
    monkeypatch.setattr("detrkit.training.validate.MATCHED_SHARE", 1)


def log(out: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in log(out, "step")]


def matched(out: Path) -> list[list[list[int]]]:
    """The queries that the objects of every image were matched with, at every validation."""
    found = [line["matched"] for line in log(out, "validation")]
    assert all([len(image) for image in one] == COUNTS for one in found)
    return found


def weights(out: Path) -> dict[str, torch.Tensor]:
    (path,) = (out / "last").glob("tensors-*.safetensors")
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("detector.")}


def first_moments(out: Path) -> dict[str, torch.Tensor]:
    (path,) = (out / "last").glob("tensors-*.safetensors")
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("optimizer.exp_avg.")}


FP64 = {
    "train.max_steps": 3,
    "train.precision": "fp64",
    "data.short_sides": [32],
    "data.max_size": 32,
    "model.backbone.frozen_stages": 0,
}
WHOLE = {
    "group": FP64 | {"model.backbone.norm": "group"},
    "frozen": FP64 | {"model.backbone.norm": "frozen"},
    "float32": {"train.max_steps": 1},
}
"""Runs that are compared with the same run in parts: by name, what they change of a small DETR."""

LAUNCHED = """
import json, sys
import detrkit
from accelerate import PartialState

data, folder, runs = sys.argv[1:]
for name, settings in json.loads(runs).items():
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, f"{folder}/{name}"):
        pass
assert PartialState().num_processes == 2
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("exactness") / "data", train=COUNTS, val=[1, 2])


@pytest.fixture(scope="module")
def in_two_processes(
    tmp_path_factory: pytest.TempPathFactory, data: Path, small_detr: dict[str, object]
) -> Path:
    """The folder of the runs of ``WHOLE``, trained by two processes with half a batch each."""
    folder = tmp_path_factory.mktemp("two processes")
    (folder / "train.py").write_text(LAUNCHED)
    halves = {
        name: small_detr | settings | {"data.batch_size": 8 if name == "float32" else 2}
        for name, settings in WHOLE.items()
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(folder / "train.py"), str(data), str(folder), json.dumps(halves)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(params=["two processes", "micro-batches"])
def in_parts(
    request: pytest.FixtureRequest, tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> Callable[[str], tuple[Path, int]]:
    """Trains a run of ``WHOLE`` in parts, and says where it lies and the batch that these make up."""

    def split(name: str) -> tuple[Path, int]:
        if request.param == "two processes":
            return request.getfixturevalue("in_two_processes") / name, 16 if name == "float32" else 4
        train(data, tmp_path / name, small_detr | WHOLE[name] | {"data.batch_size": 4, "train.accumulate": 4})
        return tmp_path / name, 16

    return split


@pytest.mark.parametrize("name", ["group", "frozen"])
def test_a_step_is_the_same_however_it_is_split(
    tmp_path: Path,
    data: Path,
    small_detr: dict[str, object],
    in_parts: Callable[[str], tuple[Path, int]],
    name: str,
) -> None:
    parts, batch_size = in_parts(name)
    train(data, tmp_path / "whole", small_detr | WHOLE[name] | {"data.batch_size": batch_size})

    assert len(losses(tmp_path / "whole")) == 3
    assert losses(parts) == pytest.approx(losses(tmp_path / "whole"), rel=1e-10)
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(parts).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_in_float32_losses_and_gradients_agree_to_rounding(
    tmp_path: Path, data: Path, small_detr: dict[str, object], in_parts: Callable[[str], tuple[Path, int]]
) -> None:
    parts, batch_size = in_parts("float32")
    train(data, tmp_path / "whole", small_detr | WHOLE["float32"] | {"data.batch_size": batch_size})

    assert losses(parts) == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    expected = first_moments(tmp_path / "whole")
    assert len(expected) > 100
    largest = max(float(moment.norm()) for moment in expected.values())
    for name, moment in first_moments(parts).items():
        # After one step, the first moment is a tenth of the clipped gradient. Some gradients are zero but
        # for rounding (those of key biases, say), so a difference is also measured by the largest.
        difference = float((moment - expected[name]).norm())
        assert difference < 1e-5 * max(float(expected[name].norm()), 1e-2 * largest), name


EXACT = {
    "train.max_steps": 9,
    "data.batch_size": 4,
    "train.checkpoint_every": 3,
    "train.ema": 0.99,
    "model.transformer.dropout": 0.1,
    "data.short_sides": [40, 48],
}
"""A run with everything that could differ after a resumption; an epoch is 4.5 steps."""


@pytest.mark.parametrize("stop_after", [1, 4, 5, 8])
def test_an_interrupted_run_resumes_to_the_same_bits(
    tmp_path: Path, data: Path, small_detr: dict[str, object], stop_after: int
) -> None:
    settings = small_detr | EXACT
    train(data, tmp_path / "whole", settings)

    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "parts"):
        if isinstance(event, Stepped) and event.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(event, Interrupted)
    assert event.step == stop_after
    train(data, tmp_path / "parts", settings, resume=True)

    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert matched(tmp_path / "parts") == matched(tmp_path / "whole")
    expected = load_file(tmp_path / "whole" / "last" / "tensors-00000009.safetensors")
    found = load_file(tmp_path / "parts" / "last" / "tensors-00000009.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_a_run_resumed_before_its_first_save_keeps_the_images_of_its_steps(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    """As where two processes began it, which are one now."""
    experiment, out = detrkit.recipe("detr_r50", small_detr | EXACT), tmp_path / "run"
    events = detrkit.fit(experiment, data, out)
    begun = next(events)
    assert isinstance(begun, Started)
    events.close()
    told = json.loads((out / "begun.json").read_text())
    assert told["images_per_step"] == begun.length.images_per_step
    (out / "begun.json").write_text(json.dumps(told | {"images_per_step": 2 * told["images_per_step"]}))

    events = detrkit.fit(experiment, data, out, resume=True)
    resumed = next(events)
    assert isinstance(resumed, Started)
    events.close()
    assert resumed.step == 0
    assert resumed.length.images_per_step == 2 * begun.length.images_per_step
    assert not [note for note in resumed.notes if "is not what" in note]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_resumed_with_another_dataset_says_so(
    tmp_path: Path, data: Path, small_detr: dict[str, object], split: str
) -> None:
    settings, out = small_detr | EXACT, tmp_path / "run"
    train(data, out, settings)
    other = tmp_path / "other"
    shutil.copytree(data, other)
    path = other / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] += 1
    path.write_text(json.dumps(content))

    begun = train(other, out, settings, resume=True)[0]
    assert isinstance(begun, Started)
    told = [note for note in begun.notes if "is not what this run began with" in note]
    assert len(told) == 1
    assert str(path) in told[0]


@pytest.mark.parametrize("same", [True, False])
def test_the_best_of_another_validation_split_counts_no_more(
    tmp_path: Path, write_coco: Callable[..., Path], small_detr: dict[str, object], same: bool
) -> None:
    data = write_coco(tmp_path / "data", train=COUNTS, val=[1, 2])
    experiment, out = detrkit.recipe("detr_r50", small_detr | EXACT), tmp_path / "run"
    for event in detrkit.fit(experiment, data, out):
        if isinstance(event, Validated):
            os.kill(os.getpid(), signal.SIGTERM)
    state = json.loads((out / "last" / "state.json").read_text())
    state["progress"]["best_ap"] = 0.9  # which nothing here comes to
    (out / "last" / "state.json").write_text(json.dumps(state))
    (out / "begun.json").write_text("damaged")  # the state itself says what was judged
    settings = (out / "experiment.toml").read_text().splitlines()
    (out / "experiment.toml").unlink()
    if not same:
        path = data / "annotations" / "instances_val.json"
        content = json.loads(path.read_text())
        content["images"][0]["file_name"] = content["images"][1]["file_name"]
        path.write_text(json.dumps(content))

    begun, *events = train(data, out, small_detr | EXACT, resume=True)
    assert [line for line in settings if not line.startswith("#")] == [
        line for line in (out / "experiment.toml").read_text().splitlines() if not line.startswith("#")
    ]
    assert isinstance(begun, Started)
    told = [note for note in begun.notes if "0.900, is of another validation split" in note]
    assert len(told) == (not same)
    first, *_ = [event for event in events if isinstance(event, Validated)]
    assert first.kept is not same
    kept = json.loads((out / "last" / "state.json").read_text())["progress"]["best_ap"]
    assert (kept == 0.9) is same


def test_telling_the_matches_changes_no_bit(
    tmp_path: Path, data: Path, small_detr: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_detr | EXACT
    train(data, tmp_path / "told", settings)
    assert len(matched(tmp_path / "told")) == 2
    monkeypatch.setattr("detrkit.training.validate.MATCHED_SHARE", 1_000)
    train(data, tmp_path / "untold", settings)

    assert [line["matched"] for line in log(tmp_path / "untold", "validation")] == [[], []]
    assert losses(tmp_path / "untold") == losses(tmp_path / "told")
    expected = weights(tmp_path / "told")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "untold").items())


def test_a_killed_run_replays_from_its_last_save(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    settings = small_detr | EXACT
    train(data, tmp_path / "whole", settings)

    events = detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "parts")
    for event in events:
        if isinstance(event, Stepped) and event.step == 8:
            break
    events.close()
    assert json.loads((tmp_path / "parts" / "last" / "state.json").read_text())["progress"]["step"] == 6
    train(data, tmp_path / "parts", settings, resume=True)

    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "parts").items())
