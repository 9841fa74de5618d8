"""Where numbers are not finite, the run stops or leaves the step out, and nothing keeps them."""

import copy
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
from torch import Tensor

import detrkit
from detrkit.errors import NotFiniteError
from detrkit.monitoring.jsonl import read_log
from detrkit.objective.criterion import Criterion
from detrkit.structures import Batch, LossReport
from detrkit.training import fit as loop
from detrkit.training.events import Event, Finished, Skipped, Stepped
from detrkit.training.prepare import Run

BAD_STEP = 2
FAULTS = ("image", "target", "loss", "gradient")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("numbers") / "data", train=[2, 1, 3, 1, 2, 1], val=[1])


@pytest.fixture
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    length = {"train.max_steps": 3, "data.batch_size": 2, "train.validate_every": 9.0}
    shown = {"data.short_sides": [32], "data.max_size": 32}
    return small_detr | length | shown | {"train.ema": 0.9, "train.trackers": []}


class Watched:
    """A run whose step number ``bad_step`` meets a fault, and what it holds after every step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: str, bad_step: int = BAD_STEP) -> None:
        self.run: Run | None = None
        self.bad_step = bad_step
        self.bad_images: list[list[int]] = []
        self.states: list[dict[str, Tensor]] = []
        prepare, to_device, criterion = loop.prepare, loop.to_device, Criterion.__call__

        def prepared(*arguments: Any) -> Run:
            self.run = prepare(*arguments)
            if fault == "gradient":
                parameter = next(p for p in self.run.detector.parameters() if p.requires_grad)
                parameter.register_hook(lambda grad: grad * torch.inf if self.is_bad else grad)
            return self.run

        def moved(batch: Batch, *arguments: Any) -> Batch:
            found = to_device(batch, *arguments)
            if self.is_bad:
                self.bad_images.append(batch.image_ids)
            if self.is_bad and fault == "image":
                found.images.pixels[1, 0, 3, 4] = torch.nan
            if self.is_bad and fault == "target":
                found.objects[1].boxes[0, 2] = torch.nan
            return found

        def judged(own: Criterion, *arguments: Any) -> LossReport:
            report = criterion(own, *arguments)
            factor = torch.inf if self.is_bad and fault == "loss" else 1.0
            return report._replace(total=report.total * factor)

        monkeypatch.setattr(loop, "prepare", prepared)
        monkeypatch.setattr(loop, "to_device", moved)
        monkeypatch.setattr(Criterion, "__call__", judged)

    @property
    def is_bad(self) -> bool:
        return self.run is not None and self.run.state.progress.step + 1 == self.bad_step

    def train(self, data: Path, out: Path, settings: dict[str, object]) -> list[Event]:
        events = []
        for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, out):
            events.append(event)
            if not isinstance(event, Finished):
                self.states.append(self.state())
        return events

    def state(self) -> dict[str, Tensor]:
        """Everything that a step changes."""
        assert self.run is not None
        assert self.run.average is not None
        moments = {
            f"{number}.{name}": value
            for number, one in enumerate(self.run.optimizer.optimizer.state.values())
            for name, value in one.items()
        }
        weights, average = self.run.detector.state_dict(), self.run.average.module.state_dict()
        parts = {"detector": weights, "moments": moments, "average": average}
        found = {f"{part} {name}": value for part, values in parts.items() for name, value in values.items()}
        return copy.deepcopy(found | {"count": torch.tensor(self.run.average.count)})


def log(out: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_stops_and_names_the_images(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    watched = Watched(monkeypatch, fault)
    with pytest.raises(NotFiniteError) as caught:
        watched.train(data, tmp_path / "run", settings)
    (image_ids,) = watched.bad_images
    at_fault = image_ids[1:] if fault in ("image", "target") else image_ids
    paths = {number: str(data / "train" / f"{number:04d}.png") for number in range(1, 7)}
    assert [number for number, path in paths.items() if path in str(caught.value)] == sorted(at_fault)
    assert log(tmp_path / "run", "failed")[0]["error"] == str(caught.value)
    before, after = watched.states[-1], watched.state()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        *((fault, {}) for fault in FAULTS),
        ("image", {"model.backbone.norm": "batch", "model.backbone.frozen_stages": 0}),
        ("gradient", {"optim.kind": "sgd", "bad_step": 1}),
        ("target", {"model.decoder.kind": "anchor", "model.decoder.groups": 2, "train.accumulate": 2}),
    ],
)
def test_a_step_that_is_left_out_changes_nothing(
    tmp_path: Path,
    data: Path,
    settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    changes: dict[str, Any],
) -> None:
    bad_step = changes.pop("bad_step", BAD_STEP)
    watched = Watched(monkeypatch, fault, bad_step)
    events = watched.train(data, tmp_path / "run", settings | changes | {"train.max_skipped_steps": 1})
    place = next(place for place, event in enumerate(events) if isinstance(event, Skipped))
    event = events[place]
    assert isinstance(event, Skipped)
    assert (event.step, event.what, event.number, event.allowed) == (bad_step, "step", 1, 1)
    assert "not finite" in event.reason or " is nan" in event.reason or " is inf" in event.reason
    before, after, later = watched.states[place - 1 : place + 2]
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(not value.any() for name, value in after.items() if name not in before)
    assert all(torch.isfinite(value).all() for value in later.values())
    assert later["count"] == after["count"] + 1
    steps = [event.step for event in events if isinstance(event, Stepped)]
    assert steps == [step for step in (1, 2, 3) if step != bad_step]
    assert [line["step"] for line in log(tmp_path / "run", "skipped")] == [bad_step]


def test_a_step_that_is_left_out_is_saved_and_validated_like_any_other(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is asked to stop as it leaves out step 2, and so gives up the validation after it."""
    some = settings | {"train.max_skipped_steps": 1, "train.validate_every": 0.6}
    watched = Watched(monkeypatch, "loss")
    watched.train(data, tmp_path / "whole", some)
    for resume in (False, True):
        for event in detrkit.fit(detrkit.recipe("detr_r50", some), data, tmp_path / "parts", resume=resume):
            if isinstance(event, Skipped):
                os.kill(os.getpid(), signal.SIGTERM)
        state = json.loads((tmp_path / "parts" / "last" / "state.json").read_text())["progress"]
        assert (state["step"], state["validation_due"]) == ((3, False) if resume else (2, True))
        assert state["skipped_steps"] == 1
    whole, parts = (
        [(line["event"], line["step"], line.get("loss")) for line in read_log(tmp_path / out / "log.jsonl")]
        for out in ("whole", "parts")
    )
    assert parts == whole
    told = ["step", "skipped", "validation", "step", "validation", "finished"]
    assert [event for event, *_ in whole] == told
    for name in ("last/tensors-00000003.safetensors", "last/state.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_too_many_steps_stop_the_run(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "is_bad", property(lambda watched: watched.run.state.progress.step >= 1))
    watched = Watched(monkeypatch, "image")
    with pytest.raises(NotFiniteError):
        watched.train(data, tmp_path / "run", settings | {"train.max_steps": 9, "train.max_skipped_steps": 2})
    assert [line["step"] for line in log(tmp_path / "run", "step")] == [1]
    assert [line["step"] for line in log(tmp_path / "run", "skipped")] == [2, 3]


LAUNCHED = """
import json, os, sys
import detrkit, torch
from accelerate import PartialState
from detrkit.training import fit as loop
from detrkit.training.events import Skipped, Stepped

data, folder, settings = sys.argv[1:]
genuine = loop.to_device

def moved(batch, *arguments):
    found = genuine(batch, *arguments)
    for image_id, objects in zip(batch.image_ids, found.objects):
        if image_id == 5:
            objects.boxes.fill_(torch.nan)
    return found

loop.to_device = moved
told = []
for event in detrkit.fit(detrkit.recipe("detr_r50", json.loads(settings)), data, f"{folder}/run"):
    if isinstance(event, Skipped):
        told.append(event._asdict())
    if isinstance(event, Stepped):
        told.append({"step": event.step, "loss": event.loss})
assert PartialState().num_processes == int(os.environ["WORLD_SIZE"])
with open(f"{folder}/told by {PartialState().process_index}.json", "w") as file:
    json.dump(told, file)
"""


def test_processes_skip_together(tmp_path: Path, data: Path, settings: dict[str, object]) -> None:
    """Image 5 has boxes of nan and image 6 cannot be read: the second process alone meets them."""
    copied = shutil.copytree(data, tmp_path / "data")
    (copied / "train" / "0006.png").write_bytes(b"")
    (tmp_path / "train.py").write_text(LAUNCHED)
    some = settings | {"data.max_skipped_images": 1, "train.max_skipped_steps": 2, "data.flip": 0.0}

    def launch(processes: int) -> list[list[dict[str, Any]]]:
        folder = tmp_path / str(processes)
        folder.mkdir()
        share = json.dumps(some | {"data.batch_size": 4 // processes})
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        done = subprocess.run(
            [*start, str(processes), str(tmp_path / "train.py"), str(copied), str(folder), share],
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(path.read_text()) for path in sorted(folder.glob("told by *.json"))]

    (alone,), (first, second) = launch(1), launch(2)
    assert first == second
    assert [one["step"] for one in first] == [one["step"] for one in alone] == [1, 1, 2, 3]
    unread, *left_out = [one["reason"] for one in first[:-1]]
    assert [unread, *left_out] == [one["reason"] for one in alone[:-1]]
    assert "0006.png cannot be read" in unread
    assert all("costs are not finite" in reason and "0005.png" in reason for reason in left_out)
    assert first[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=1e-5)
