import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from detrkit.errors import DetrkitError
from detrkit.machine import describe_machine
from detrkit.monitoring import header
from detrkit.monitoring.header import RunHeader, read_header, without_passwords


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the wall's clock shows: its last value."""
    shown = [100.0]
    monkeypatch.setattr(header.time, "monotonic", lambda: shown[-1])
    return shown


def commit_of(folder: Path) -> str:
    """The commit of a new repository."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    heads = (folder / ".git" / "refs" / "heads").iterdir()
    return next(heads).read_text().strip()


def test_what_was_run_is_there_from_the_start(
    events: Any, tell: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/detrkit", "train", "shapes", "--data", "my data"])
    commit = commit_of(tmp_path)
    listener = RunHeader(tmp_path, Path("my data"), Path("a.safetensors"), "shapes")
    tell(listener, events.started(notes=["3 images have no objects"]))
    found = read_header(tmp_path / "run.json")
    started, seconds = found.pop("started"), found.pop("seconds")
    assert started.endswith("+00:00")
    assert 0 <= seconds < 60
    versions = found.pop("versions")
    assert versions["torch"] == version("torch")
    assert found == {
        "detrkit": version("detrkit"),
        "recipe": "shapes",
        "data": str(tmp_path / "my data"),
        "init": str(tmp_path / "a.safetensors"),
        "command": "detrkit train shapes --data 'my data'",
        "folder": str(tmp_path),
        "commit": commit,
        "machine": describe_machine(),
        "splits": {"train": "", "val": ""},  # as the events' settings have them
        "images": {"train": 16, "val": 5},
        "device": "cpu",
        "processes": 1,
        "steps": 40,
        "images_per_step": 2,
        "parameters": 56_789,
        "trainable_parameters": 1_234,
        "notes": ["3 images have no objects"],
        "resumed": [],
        "peak_memory": None,
        "state": "running",
        "ended": None,
    }


def test_the_end_says_what_it_took(events: Any, tell: Callable, tmp_path: Path, clock: list[float]) -> None:
    listener = RunHeader(tmp_path, tmp_path)
    tell(listener, events.started(), events.stepped(3), events.stepped(1))
    clock.append(107.5)
    tell(listener, events.validated(3))
    running = read_header(tmp_path / "run.json")
    assert (running["state"], running["seconds"], running["peak_memory"]) == ("running", 7.5, 1_000_003)
    clock.append(110.0)
    tell(listener, events.finished(3))
    ended = read_header(tmp_path / "run.json")
    assert (ended["state"], ended["seconds"]) == ("finished", 10.0)
    assert ended["ended"] >= ended["started"]


def test_a_resumed_run_keeps_its_start_and_adds_its_time(
    events: Any, tell: Callable, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["detrkit", "train"])
    first = RunHeader(tmp_path, tmp_path)
    tell(first, events.started(), events.stepped(5))
    clock.append(103.0)
    tell(first, events.interrupted(5))
    interrupted = read_header(tmp_path / "run.json")
    assert (interrupted["state"], interrupted["seconds"]) == ("interrupted", 3.0)

    monkeypatch.setattr(sys, "argv", ["detrkit", "train", "--resume"])
    again = RunHeader(tmp_path, tmp_path / "elsewhere", resume=True)
    tell(again, events.started(step=5, notes=["the dataset has changed"]), events.stepped(2))
    clock.append(107.0)
    tell(again, events.finished(6))
    found = read_header(tmp_path / "run.json")
    changed = {"state", "ended", "seconds", "peak_memory", "resumed"}
    assert {name: value for name, value in found.items() if name not in changed} == {
        name: value for name, value in interrupted.items() if name not in changed
    }
    assert found["command"] == "detrkit train"
    assert (found["state"], found["seconds"], found["peak_memory"]) == ("finished", 7.0, 1_000_005)
    (resumed,) = found["resumed"]
    assert (resumed["step"], resumed["command"]) == (5, "detrkit train --resume")
    assert resumed["machine"] == describe_machine()
    assert (resumed["data"], resumed["images"]) == (str(tmp_path / "elsewhere"), {"train": 16, "val": 5})
    assert resumed["notes"] == ["the dataset has changed"]


def test_an_error_that_ends_a_run_that_had_begun_is_its_state(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    listener = RunHeader(tmp_path, tmp_path)
    listener.fail()
    assert not (tmp_path / "run.json").exists()
    tell(listener, events.started())
    listener.fail()
    found = read_header(tmp_path / "run.json")
    assert found["state"] == "failed"
    assert found["ended"] >= found["started"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"detrkit": '])
def test_a_damaged_header_of_a_resumed_run_is_told_and_written_anew(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "run.json").write_text(text)
    tell(RunHeader(tmp_path, tmp_path, resume=True), events.started(step=5), events.finished(6))
    (record,) = caplog.records
    assert str(tmp_path / "run.json") in record.getMessage()
    found = read_header(tmp_path / "run.json")
    assert (found["state"], found["resumed"]) == ("finished", [])


def test_a_fresh_run_in_the_same_folder_has_a_fresh_header(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seconds": 50.0, "resumed": [{}]}))
    tell(RunHeader(tmp_path, tmp_path), events.started())
    assert read_header(tmp_path / "run.json")["resumed"] == []


@pytest.mark.parametrize("missing", ["repository", "git"])
def test_there_is_no_commit_outside_a_repository_or_without_git(
    events: Any, tell: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if missing == "git":
        commit_of(tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
    tell(RunHeader(tmp_path, tmp_path), events.started())
    assert read_header(tmp_path / "run.json")["commit"] is None


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        (
            "tune --storage postgresql://me:pass@word@host:5432/db",
            "tune --storage postgresql://me:***@host:5432/db",
        ),
        ("tune --storage=mysql://me:x@host/db --seed 1", "tune --storage=mysql://me:***@host/db --seed 1"),
        ("tune --storage postgresql://me@host:5432/db", "tune --storage postgresql://me@host:5432/db"),
        ("train shapes --data a:b@c", "train shapes --data a:b@c"),
    ],
)
def test_passwords_in_urls_are_not_noted(given: str, noted: str) -> None:
    assert without_passwords(given) == noted


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"9" * 5000],
    ids=["empty", "list", "bytes", "deep", "long"],
)
def test_a_damaged_header_is_told_in_a_sentence(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(damaged)
    with pytest.raises(DetrkitError, match=r"run\.json .*: restore it from a copy\.$"):
        read_header(path)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(("data", value) for value in (5, None, [], {})),
        *(("machine", value) for value in ("x", [], {"cores": 2}, None)),
        *(("seconds", value) for value in ("x", None, -1.0, float("nan"), float("inf"), 10**400)),
        *(("notes", value) for value in (5, "x", [5], None)),
        *(("resumed", value) for value in (5, {}, [5], None)),
        *(("steps", value) for value in ("x", 1.5, True, -1, 10**400)),
        *(("splits", value) for value in ("val", {"val": 5}, [])),
        *(("images", value) for value in (5, {"val": "5"}, {"val": -1})),
        ("recipe", ["shapes"]),
        ("peak_memory", "1 GiB"),
        ("state", None),
        ("versions", {"torch": 2}),
    ],
)
def test_an_entry_that_is_not_what_it_should_be_is_named(tmp_path: Path, entry: str, value: object) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"data": "/data", entry: value}))
    place = "range" if value == 10**400 and entry == "seconds" else re.escape(f"$.{entry}")
    with pytest.raises(DetrkitError, match=rf"run\.json cannot be read \(.*{place}.*\): restore it"):
        read_header(path)


def test_a_header_without_what_came_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"data": "/data", "recipe": null, "of a later release": [1]}')
    found = read_header(path)
    assert (found["data"], found["recipe"], found["of a later release"]) == ("/data", None, [1])
    assert (found["resumed"], found["seconds"], found["peak_memory"]) == ([], 0.0, None)


def test_what_is_no_file_or_too_long_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "long").open("wb") as file:
        file.truncate(2**40)
    for name, words in (("pipe", "not a regular file"), ("long", "1,099,511,627,776 bytes")):
        with pytest.raises(DetrkitError, match=rf"{name} cannot be read \(.*{words}"):
            read_header(tmp_path / name)
