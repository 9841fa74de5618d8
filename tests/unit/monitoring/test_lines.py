"""Lines of logs from anybody: whatever is no event, or has not what its event has, is left out and told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detrkit.monitoring.jsonl import JsonLines, as_line, read_log
from detrkit.monitoring.lines import read_lines
from detrkit.training.events import Skipped

HUGE = 10**400
"""Which no float holds."""


def lines_of(events: Any) -> dict[str, dict[str, Any]]:
    """A line of every event, as the log of a run has them."""
    told = {
        "step": events.stepped(1),
        "skipped": Skipped(1, "image", "it is empty", 1, 2),
        "validation": events.validated(2, raw=True)._replace(matched=[[3, -1]], unread=["a.png"]),
        "interrupted": events.interrupted(2),
        "finished": events.finished(2),
    }
    failed = {"event": "failed", "step": 2, "error": "the loss is not finite"}
    return {name: as_line(event) for name, event in told.items()} | {"failed": failed}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_every_line_that_a_run_writes_is_read_as_it_stands(events: Any, tmp_path: Path) -> None:
    lines = list(lines_of(events).values())
    found = read_lines(write(tmp_path / "log.jsonl", *lines))
    assert (found.lines, found.left_out) == (json.loads(json.dumps(lines)), "")


def test_lines_of_the_first_release_are_read(tmp_path: Path) -> None:
    """Steps with their losses and times, and validations with COCO's figures, were all that there was."""
    step = {"event": "step", "step": 1, "epoch": 0.5, "loss": 3.0, "terms": {"l1": [1.0]}}
    step |= {"gradient_norm": 1.0, "learning_rates": {"rest": 1e-4}, "seconds": 1.0, "data_seconds": 0}
    validation = {"event": "validation", "step": 1, "epoch": 1, "kept": True, "seconds": 1.0}
    validation["metrics"] = {"AP": -1, "AP50": 0.5}
    finished = {"event": "finished", "step": 1}
    assert read_log(write(tmp_path / "log.jsonl", step, validation, finished)) == [step, validation, finished]


def test_losses_that_are_no_numbers_and_events_of_later_releases_are_read(
    events: Any, tmp_path: Path
) -> None:
    diverged = lines_of(events)["step"] | {"loss": float("inf"), "gradient_norm": float("-inf")}
    later = {"event": "paused", "step": 3, "why": {"so": []}}
    assert read_log(write(tmp_path / "log.jsonl", diverged, later)) == [diverged, later]


@pytest.mark.parametrize(
    "text",
    [b'{"event": "st', b"[]", b"3", b"{}", b"[" * 100_000, b"\xff", b'{"event": "step"}', b'{"step": 1}'],
    ids=lambda text: text[:9].decode(errors="replace"),
)
def test_what_is_no_event_is_left_out_and_told(events: Any, tmp_path: Path, text: bytes) -> None:
    path = write(tmp_path / "log.jsonl", lines_of(events)["step"])
    path.write_bytes(path.read_bytes() + text + b"\n\n")
    found = read_lines(path)
    assert [line["step"] for line in found.lines] == [1]
    assert found.left_out.startswith(f"{path}: lines left out: 1, from line 2 (")
    assert len(found.left_out) < 500


@pytest.mark.parametrize(
    ("event", "entry", "value"),
    [
        *(("step", "step", value) for value in ("x", None, 1.5, -1, True, HUGE, [], float("nan"))),
        *(("step", "epoch", value) for value in ("x", None, -1, 1e300, HUGE, float("nan"))),
        *(("step", "seconds", value) for value in ("x", None, -1, float("inf"), float("nan"))),
        *(("step", "loss", value) for value in ("x", None, HUGE, [1.0])),
        *(("step", "terms", value) for value in ([], 5, {"l1": 1.0}, {"l1": []}, {"l1": [None]})),
        *(("step", "learning_rates", value) for value in ([], {"rest": "fast"}, {"x" * 5000: 1.0})),
        *(("step", "update_ratios", value) for value in (5, {"rest": None})),
        *(("step", "images", value) for value in ("x", None, 0.5)),
        ("step", "terms", {f"term {number}": [1.0] for number in range(1000)}),
        *(("validation", "metrics", value) for value in (5, None, {}, {"AP": None, "AP50": 0.5})),
        ("validation", "metrics", {"AP": 0.5, "AP50": 0.5, "per_class": {"cat": 5}}),
        ("validation", "metrics", {"AP": 50, "AP50": 80}),
        *(("validation", "matched", value) for value in (5, [5], [["x"]], None)),
        ("validation", "raw", "x"),
        ("finished", "reason", 5),
        ("failed", "error", None),
        ("interrupted", "step", "x"),
        ("skipped", "number", HUGE),
    ],
)
def test_what_has_not_what_its_event_has_is_left_out_and_told(
    events: Any, tmp_path: Path, event: str, entry: str, value: object
) -> None:
    line = lines_of(events)[event]
    path = write(tmp_path / "log.jsonl", line, line | {entry: value}, line)
    found = read_lines(path)
    assert found.lines == json.loads(json.dumps([line, line]))
    assert "lines left out: 1, from line 2 (" in found.left_out
    assert entry in found.left_out or "out of range" in found.left_out


def test_a_last_line_that_a_kill_cut_short_is_no_damage(events: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", lines_of(events)["step"])
    path.write_bytes(path.read_bytes() + b'{"event": "st')
    assert (len(read_lines(path).lines), read_lines(path).left_out) == (1, "")


def test_halves_of_surrogate_pairs_can_be_written(events: Any, tmp_path: Path) -> None:
    line = lines_of(events)["step"] | {"terms": {"\ud800": [1.0]}}
    (found,) = read_log(write(tmp_path / "log.jsonl", line))
    assert found["terms"] == {"\\ud800": [1.0]}


def test_a_line_beyond_all_measure_is_left_out_and_the_next_is_read(
    events: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detrkit.monitoring.lines._LONGEST", 2000)
    step = lines_of(events)["step"]
    path = write(tmp_path / "log.jsonl", step | {"more": "x" * 9000}, step)
    found = read_lines(path)
    assert found.lines == [step]
    assert "from line 1 (" in found.left_out


def test_a_pipe_in_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        read_log(tmp_path / "log.jsonl")
    with pytest.raises(OSError, match="not there"):
        read_log(tmp_path / "none")


def test_a_run_that_goes_on_keeps_no_odd_line_at_the_end(events: Any, tell: Callable, tmp_path: Path) -> None:
    tell(JsonLines(tmp_path), events.started(), events.stepped(1))
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        path.read_bytes() + b'{"event": "step", "step": "x"}\n{"event": "validation", "step": 0}\n'
    )
    tell(JsonLines(tmp_path), events.started(step=1), events.stepped(2))
    assert [line["step"] for line in read_log(path)] == [1, 2]
    assert len(path.read_text().splitlines()) == 2
