import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from detrkit.errors import DetrkitError
from detrkit.monitoring import jsonl
from detrkit.monitoring.jsonl import JsonLines
from detrkit.training.events import Skipped


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def test_there_is_a_line_per_event_with_all_that_it_tells(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    told = [events.stepped(1), events.validated(1), events.interrupted(1), events.finished(2)]
    tell(JsonLines(tmp_path), events.started(), *told)
    step, validation, interrupted, finished = lines(tmp_path)
    assert step == {
        "event": "step",
        "step": 1,
        "epoch": 0.125,
        "loss": 10.0,
        "terms": {"l1": [0.5, 0.25], "mean": [0.1]},
        "gradient_norm": 7.5,
        "gradient_norms": {"backbone": 4.5, "rest": 6.0},
        "update_ratios": {"backbone": 1e-4, "rest": 2e-3},
        "learning_rates": {"backbone": 1e-5, "rest": 3e-4},
        "images": 2,
        "seconds": 0.5,
        "data_seconds": 0.125,
        "images_per_second": 4.0,
        "data_share": 0.25,
        "memory": 1_000_001,
    }
    assert (validation["event"], validation["step"], validation["kept"]) == ("validation", 1, True)
    assert (validation["metrics"]["AP"], validation["metrics"]["ARl"]) == (0.01, 0.12)
    named = {"AP": 0.1, "AP50": 0.2, "AP75": 0.3, "APs": 0.4, "APm": 0.5, "APl": 0.6, "AR": 0.7, "objects": 3}
    assert validation["metrics"]["per_class"] == {"кошка": named}
    assert (validation["raw"], validation["raw_seconds"]) == (None, 0.0)
    assert interrupted == {"event": "interrupted", "step": 1, "out": str(tmp_path), "signal": 15}
    assert finished["event"] == "finished"
    assert (finished["best_ap"], finished["best_step"]) == (0.421, 32)


def test_the_figures_of_the_weights_stand_beside_those_of_their_average(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    tell(JsonLines(tmp_path), events.started(), events.validated(1, raw=True))
    (line,) = lines(tmp_path)
    assert (line["metrics"]["AP"], line["raw"]["AP"], line["raw"]["ARl"]) == (0.01, 0.005, 0.06)
    assert line["raw"]["per_class"] == line["metrics"]["per_class"]
    assert (line["seconds"], line["raw_seconds"]) == (1.5, 0.5)


def test_a_line_is_on_disk_as_soon_as_it_is_told(events: Any, tell: Callable, tmp_path: Path) -> None:
    log = JsonLines(tmp_path)
    tell(log, events.started())
    for step in (1, 2, 3):
        tell(log, events.stepped(step))
        assert [line["step"] for line in lines(tmp_path)] == list(range(1, step + 1))


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_resumed_run_continues_where_its_state_was_saved(
    events: Any, tell: Callable, tmp_path: Path, cut: int
) -> None:
    first = [events.stepped(1), events.stepped(2), events.validated(2), events.stepped(3), events.stepped(4)]
    tell(JsonLines(tmp_path), events.started(), *first)
    if cut:
        path = tmp_path / "log.jsonl"
        path.write_bytes(path.read_bytes()[:-cut])
    tell(JsonLines(tmp_path), events.started(step=2), events.stepped(3, loss=0.5), events.finished(3))
    found = [(line["event"], line["step"]) for line in lines(tmp_path)]
    assert found == [("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("finished", 3)]
    assert lines(tmp_path)[3]["loss"] == 0.5


def test_a_run_that_goes_on_after_an_interruption_has_no_trace_of_it(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    tell(JsonLines(tmp_path), events.started(), events.stepped(1), events.interrupted(1))
    tell(JsonLines(tmp_path), events.started(step=1), events.stepped(2))
    assert [line["event"] for line in lines(tmp_path)] == ["step", "step"]


def test_a_fresh_run_begins_a_fresh_log(events: Any, tell: Callable, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "step", "step": 5}\n')
    tell(JsonLines(tmp_path), events.started())
    assert lines(tmp_path) == []


def test_what_ended_a_run_is_its_last_line_until_it_goes_on(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    log = JsonLines(tmp_path)
    log.fail(DetrkitError("before it began"))
    assert not (tmp_path / "log.jsonl").exists()
    tell(log, events.started(), events.stepped(1))
    log.fail(DetrkitError("the loss is not finite"))
    assert lines(tmp_path)[-1] == {"event": "failed", "step": 1, "error": "the loss is not finite"}
    tell(JsonLines(tmp_path), events.started(step=1))
    assert [line["event"] for line in lines(tmp_path)] == ["step"]


def test_a_validation_that_is_begun_again_is_told_once(events: Any, tell: Callable, tmp_path: Path) -> None:
    tell(JsonLines(tmp_path), events.started(), events.stepped(1), events.validated(1))
    tell(JsonLines(tmp_path), events.started(step=1))
    assert [line["event"] for line in lines(tmp_path)] == ["step", "validation"]
    tell(JsonLines(tmp_path), events.started(step=1)._replace(validation_due=True), events.validated(1))
    assert [line["event"] for line in lines(tmp_path)] == ["step", "validation"]


def test_what_was_skipped_holds_like_steps_and_is_no_gap(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def skipped(step: int, what: Literal["image", "step"]) -> Skipped:
        return Skipped(step, what, reason="so", number=1, allowed=2)

    first = [
        events.stepped(1),
        skipped(2, "step"),
        skipped(3, "image"),
        events.stepped(3),
        skipped(4, "step"),
    ]
    tell(JsonLines(tmp_path), events.started(), *first)
    tell(JsonLines(tmp_path), events.started(step=3))
    found = [(line["event"], line["step"], line.get("what")) for line in lines(tmp_path)]
    assert found == [("step", 1, None), ("skipped", 2, "step"), ("skipped", 3, "image"), ("step", 3, None)]
    assert caplog.records == []
    tell(JsonLines(tmp_path), events.started(), skipped(1, "image"))
    tell(JsonLines(tmp_path), events.started(step=1))
    assert "lacks 1 of the 1 steps" in caplog.text  # the image was skipped, and the step is not there


def test_lines_that_cannot_be_written_wait_and_half_a_line_is_taken_back(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    folder.mkdir()
    log = JsonLines(folder, clock=lambda: 0.0)
    tell(log, events.started(), events.stepped(1))
    with log.path.open("a") as file:
        file.write('{"event": "step", "st')  # as a disk leaves it that becomes full
    folder.rename(away)
    tell(log, events.stepped(2), events.validated(2))
    away.rename(folder)
    tell(log, events.stepped(3))
    told = [(line["event"], line["step"]) for line in lines(folder)]
    assert told == [("step", 1), ("step", 2), ("validation", 2), ("step", 3)]
    warned, over = [record.getMessage() for record in caplog.records]
    assert f"{log.path} cannot be written (No such file or directory)" in warned
    assert over == f"{log.path} is written again."


def test_a_disk_that_refuses_slowly_takes_a_twentieth_of_the_time(
    events: Any, tell: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tries, full = [100.0], [], True
    append = jsonl._append

    def slow(*given: Any) -> int:
        tries.append(now[0])
        now[0] += 2
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(*given)

    log = JsonLines(tmp_path, clock=lambda: now[0])
    tell(log, events.started())
    monkeypatch.setattr(jsonl, "_append", slow)
    for step in range(1, 101):
        tell(log, events.stepped(step))
        now[0] += 1
    assert tries == [100, 140, 180]
    full = False
    tell(log, events.interrupted(100))  # at the end it is tried whenever the last time was
    assert [line["step"] for line in lines(tmp_path)] == [*range(1, 101), 100]


def test_a_run_does_not_end_well_with_lines_that_were_never_written(
    events: Any, tell: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    log = JsonLines(folder)
    tell(log, events.started(), events.stepped(1))
    folder.rename(tmp_path / "away")
    tell(log, events.stepped(2))
    with pytest.raises(DetrkitError, match=r"log\.jsonl lacks its last 2 lines"):
        tell(log, events.finished(2))


def test_a_resumed_run_says_which_steps_its_log_lacks(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell(JsonLines(tmp_path), events.started(), events.stepped(1), events.stepped(4))
    assert not caplog.records
    tell(JsonLines(tmp_path), events.started(step=5))
    (record,) = caplog.records
    assert "lacks 3 of the 5 steps that are done, first step 2" in record.getMessage()
