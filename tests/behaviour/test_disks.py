"""A run on a disk that is full, read-only, away or slow for a while loses nothing, and says what it risks."""

import errno
import itertools
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import detrkit
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import evaluate_results
from detrkit.training import saving
from detrkit.training.events import Event, Stepped
from detrkit.weights import store

COUNTS = [2, 1, 3, 1, 2]
STEPS = 9
SETTINGS: dict[str, object] = {
    "train.max_steps": STEPS,
    "data.batch_size": 2,  # an epoch is 2.5 steps: validations after steps 3, 5, 8 and 9
    "train.checkpoint_every": 2,
    "model.backbone.levels": ["layer3"],  # a quarter of the weights
    "data.short_sides": [32],
    "data.max_size": 32,
    "data.eval_short_side": 32,
    "train.trackers": [],
}
APS = [0.1, 0.3, 0.2, 0.2]
"""Of the validations. The best is the one after step 5, while the disk refuses."""

Change = Callable[[], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("disks") / "data", side=32, train=COUNTS, val=[1])


@pytest.fixture(scope="module")
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    return small_detr | SETTINGS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path, settings: dict[str, object]) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(settings, data, out)
    return out


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, with room for two states of the run and no more."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "none", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def train(
    settings: dict[str, object],
    data: Path,
    out: Path,
    changes: dict[int, Change] | None = None,
) -> None:
    """Train, and change something in the world after some steps."""
    for event in planned(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out), validations=0):
        if changes and isinstance(event, Stepped) and event.step in changes:
            changes[event.step]()


def resume(settings: dict[str, object], data: Path, out: Path, validations: int) -> None:
    """Go on with a run that was validated so many times."""
    list(planned(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=True), validations))


def planned(events: Iterator[Event], validations: int) -> Iterator[Event]:
    """The events of a run whose validations, but for the first ones, find the APs of the plan."""
    aps = itertools.islice(APS, validations, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "detrkit.training.validate.evaluate_results",
            lambda *given: evaluate_results(*given)._replace(AP=next(aps)),
        )
        yield from events


def log(out: Path) -> list[tuple[str, int, float | None]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["event"], line["step"], line.get("loss")) for line in lines]


def require_same(found: Path, expected: Path) -> None:
    for name in (f"last/tensors-{STEPS:08d}.safetensors", "last/state.json", "model.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    for name in ("detections.json", "metrics.json"):
        assert (found / "evaluation" / name).read_bytes() == (expected / "evaluation" / name).read_bytes()
    assert [step for event, step, _ in log(found) if event == "step"] == list(range(1, STEPS + 1))
    assert log(found) == log(expected)
    assert {path.name for path in found.rglob("*")} == {path.name for path in expected.rglob("*")}


def require_saved(out: Path, step: int) -> None:
    """The state on disk is that of ``step``, and whole."""
    state = json.loads((out / "last" / "state.json").read_text())
    assert state["progress"]["step"] == step
    store.read_tensors(out / "last" / state["tensors"])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def fill(disk: Path) -> None:
    """Write until there is no room for a single byte."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        size = 2**20
        while size:
            try:
                filler.write(bytes(size))
            except OSError:
                size //= 2


def full(disk: Path, out: Path) -> tuple[Change, Change]:
    return lambda: fill(disk), (disk / "filler").unlink


def read_only(disk: Path, out: Path) -> tuple[Change, Change]:
    def cover() -> None:
        """By a mount on top: the one below, in which the run holds its lock, is too busy to change."""
        for how in (["--bind", disk], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *how, disk], check=True)

    return cover, lambda: subprocess.run(["umount", disk], check=True) and None


def vanished(disk: Path, out: Path) -> tuple[Change, Change]:
    away = out.with_name("away")
    return lambda: shutil.move(out, away), lambda: shutil.move(away, out)


TROUBLES = {
    full: os.strerror(errno.ENOSPC),
    read_only: os.strerror(errno.EROFS),
    vanished: os.strerror(errno.ENOENT),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_the_disk_refuses_is_written_when_it_takes_it(
    disk: Path,
    data: Path,
    settings: dict[str, object],
    undisturbed: Path,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[Path, Path], tuple[Change, Change]],
) -> None:
    out = disk / "run"
    begin, end = trouble(disk, out)

    def end_it() -> None:
        end()
        require_saved(out, 3)
        told = [number for event, number, _ in complete(out) if event == "step"]
        assert told == list(range(1, len(told) + 1))
        assert len(told) < 7

    train(settings, data, out, {4: begin, 7: end_it})
    require_same(out, undisturbed)

    said = warnings(caplog)
    for path in (out, out / "log.jsonl"):
        about = [one for one in said if one.startswith(f"{path} ")]
        assert f"{path} cannot be written ({TROUBLES[trouble]}). Training goes on" in about[0]
        assert about[1:] == [f"{path} is written again."]


def complete(out: Path) -> list[tuple[str, int, float | None]]:
    """The whole lines of a log whose last one may be cut short."""
    *lines, _ = (out / "log.jsonl").read_text().split("\n")
    return [(line["event"], line["step"], line.get("loss")) for line in map(json.loads, lines)]


def test_a_run_that_ends_on_a_full_disk_says_what_is_saved_and_goes_on_from_there(
    disk: Path, data: Path, settings: dict[str, object], undisturbed: Path
) -> None:
    out = disk / "run"
    begin, end = full(disk, out)
    with pytest.raises(DetrkitError) as caught:
        train(settings, data, out, {4: begin})
    assert f"step {STEPS} could not be saved in {out} (No space left on device)" in str(caught.value)
    assert "--resume goes on from step 3" in str(caught.value)
    require_saved(out, 3)

    end()
    resume(settings, data, out, validations=1)
    require_same(out, undisturbed)


def test_a_run_that_cannot_begin_on_its_disk_is_refused(
    disk: Path, data: Path, settings: dict[str, object]
) -> None:
    fill(disk)
    (disk / "run").mkdir()
    with pytest.raises(DetrkitError, match=f"{disk / 'run'} cannot be written to .No space left on device."):
        train(settings, data, disk / "run")
    assert list((disk / "run").iterdir()) == []


def test_a_validation_image_that_cannot_be_read_costs_no_step(
    tmp_path: Path, data: Path, settings: dict[str, object], undisturbed: Path
) -> None:
    mended = shutil.copytree(data, tmp_path / "data")
    image = mended / "val" / "0001.png"
    content = image.read_bytes()
    with pytest.raises(DetrkitError, match=r"0001\.png"):
        train(settings, mended, tmp_path / "run", {7: lambda: image.write_bytes(content[:100]) and None})
    require_saved(tmp_path / "run", 8)

    image.write_bytes(content)
    resume(settings, mended, tmp_path / "run", validations=2)
    require_same(tmp_path / "run", undisturbed)


def test_a_quota_and_a_slow_disk_are_told_once(
    tmp_path: Path,
    data: Path,
    settings: dict[str, object],
    undisturbed: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quota of a network's disk is told where a file is flushed."""
    refuse, flush = False, os.fsync

    def fsync(descriptor: int) -> None:
        if refuse:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        time.sleep(0.02)
        flush(descriptor)

    def switch(to: bool) -> None:
        nonlocal refuse
        refuse = to

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(saving, "SLOW", 0.01)
    out = tmp_path / "run"
    train(settings, data, out, {4: lambda: switch(True), 7: lambda: switch(False)})
    require_same(out, undisturbed)

    said = warnings(caplog)
    assert len([one for one in said if one.startswith(f"{out} cannot be written (Disk quota exceeded)")]) == 1
    assert len([one for one in said if one.startswith(f"Saving in {out} took")]) == 1
