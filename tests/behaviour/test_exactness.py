"""How a step is split between processes and micro-batches, or a run by interruptions, changes nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import detrkit
from detrkit.training.events import Event, Interrupted, Stepped

COUNTS = [3, 0, 7, 1, 2, 5, 1, 4, 0, 2, 6, 1, 3, 2, 1, 4, 2, 3]
"""Objects per image; two images have none, and one more than there are queries."""


def train(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> list[Event]:
    return list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=resume))


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "step"]


def weights(out: Path) -> dict[str, torch.Tensor]:
    (path,) = (out / "last").glob("tensors-*.safetensors")
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("detector.")}


def first_moments(out: Path) -> dict[str, torch.Tensor]:
    (path,) = (out / "last").glob("tensors-*.safetensors")
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("optimizer.exp_avg.")}


def run_in_two_processes(data: Path, out: Path, settings: dict[str, object]) -> None:
    program = (
        "import sys, json, detrkit\n"
        "from accelerate import PartialState\n"
        "data, out, settings = sys.argv[1:]\n"
        "for event in detrkit.fit(detrkit.recipe('detr_r50', json.loads(settings)), data, out): pass\n"
        "assert PartialState().num_processes == 2\n"
    )
    script = out.parent / "train.py"
    script.write_text(program)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launch, str(script), str(data), str(out), json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def data(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path / "data", train=COUNTS, val=[1, 2])


@pytest.mark.parametrize("norm", ["group", "frozen"])
@pytest.mark.parametrize("split", ["two processes", "micro-batches"])
def test_a_step_is_the_same_however_it_is_split(
    tmp_path: Path, data: Path, small_detr: dict[str, object], norm: str, split: str
) -> None:
    small_images = {"data.short_sides": [32], "data.max_size": 32}
    settings = small_detr | small_images | {"model.backbone.norm": norm}
    settings |= {"train.max_steps": 3, "train.precision": "fp64"}
    if norm == "frozen":
        settings["model.backbone.frozen_stages"] = 0
    if split == "two processes":
        parts = {"data.batch_size": 2}
        run_in_two_processes(data, tmp_path / "parts", settings | parts)
        whole = {"data.batch_size": 4}
    else:
        parts = {"data.batch_size": 4, "train.accumulate": 4}
        train(data, tmp_path / "parts", settings | parts)
        whole = {"data.batch_size": 16}
    train(data, tmp_path / "whole", settings | whole)

    assert len(losses(tmp_path / "whole")) == 3
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-10)
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "parts").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("split", ["two processes", "micro-batches"])
def test_in_float32_losses_and_gradients_agree_to_rounding(
    tmp_path: Path, data: Path, small_detr: dict[str, object], split: str
) -> None:
    settings = small_detr | {"train.max_steps": 1}
    train(data, tmp_path / "whole", settings | {"data.batch_size": 16})
    if split == "two processes":
        run_in_two_processes(data, tmp_path / "parts", settings | {"data.batch_size": 8})
    else:
        train(data, tmp_path / "parts", settings | {"data.batch_size": 4, "train.accumulate": 4})

    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    expected = first_moments(tmp_path / "whole")
    assert len(expected) > 100
    largest = max(float(moment.norm()) for moment in expected.values())
    for name, moment in first_moments(tmp_path / "parts").items():
        # After one step, the first moment is a tenth of the clipped gradient. Some gradients are zero but
        # for rounding (those of key biases, say), so a difference is also measured by the largest.
        difference = float((moment - expected[name]).norm())
        assert difference < 1e-5 * max(float(expected[name].norm()), 1e-2 * largest), name


EXACT = {
    "train.max_steps": 9,
    "data.batch_size": 4,
    "train.checkpoint_every": 2,
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
    expected = load_file(tmp_path / "whole" / "last" / "tensors-00000009.safetensors")
    found = load_file(tmp_path / "parts" / "last" / "tensors-00000009.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


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
