from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from detrkit.monitoring.doctor.live import MOST_LINES, LiveDoctor
from detrkit.monitoring.jsonl import JsonLines
from detrkit.settings.experiment import recipe


def started(events: Any, step: int = 0) -> Any:
    return events.started(step)._replace(trainable_parameters=50_000)


@pytest.fixture
def told(events: Any, tmp_path: Path) -> tuple[LiveDoctor, list[str]]:
    said: list[str] = []
    return LiveDoctor(tmp_path, tmp_path / "data", said.append), said


def test_an_ailment_is_told_once_and_only_after_a_validation(
    told: tuple[LiveDoctor, list[str]], events: Any, tell: Callable
) -> None:
    doctor, said = told
    tell(doctor, started(events), *(events.stepped(step, data_seconds=0.4) for step in range(1, 21)))
    assert said == []
    tell(doctor, events.validated(20))
    assert len(said) == 1
    assert "80% of a step" in said[0]
    assert "--set data.workers" in said[0]
    tell(doctor, events.stepped(21, data_seconds=0.4), events.validated(21))
    assert len(said) == 1


def test_a_run_without_ailment_is_left_alone(
    told: tuple[LiveDoctor, list[str]], events: Any, tell: Callable
) -> None:
    doctor, said = told
    steps = [events.stepped(step, data_seconds=0.0) for step in range(1, 21)]
    tell(doctor, started(events), *steps, events.validated(20))
    assert said == []


def test_a_long_run_is_remembered_in_part(
    told: tuple[LiveDoctor, list[str]], events: Any, tell: Callable
) -> None:
    doctor, _ = told
    experiment = recipe("shapes")
    tell(doctor, started(events)._replace(experiment=experiment))
    tell(doctor, *(events.stepped(step) for step in range(1, 3 * MOST_LINES)))
    steps = [line["step"] for line in doctor._lines]
    assert MOST_LINES / 2 <= len(steps) <= MOST_LINES
    assert steps[-1] >= 3 * MOST_LINES - 5
    assert len({after - before for before, after in pairwise(steps)}) == 1
    assert any(line["update_ratios"] for line in doctor._lines)


def test_a_resumed_run_is_judged_from_its_beginning(
    told: tuple[LiveDoctor, list[str]], events: Any, tell: Callable, tmp_path: Path
) -> None:
    doctor, said = told
    log = JsonLines(tmp_path)
    tell(log, events.started(), *(events.stepped(step, loss=10.0 / step) for step in range(1, 31)))
    steps = [events.stepped(step, loss=0.3, data_seconds=0.0) for step in range(31, 41)]
    tell(doctor, started(events, step=30), *steps, events.validated(40))
    # by these ten steps alone, the loss would never have fallen
    assert not any("never fell" in sentence for sentence in said)
    alone: list[str] = []
    tell(LiveDoctor(tmp_path, tmp_path / "data", alone.append), started(events), *steps, events.validated(40))
    assert any("never fell" in sentence for sentence in alone)


def test_a_doctor_that_fails_stops_no_run_and_is_said(
    events: Any, tell: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(sentence: str) -> None:
        raise ZeroDivisionError("a fault in the doctor")

    doctor = LiveDoctor(tmp_path, tmp_path / "data", fail)
    steps = [events.stepped(step, data_seconds=0.4) for step in range(1, 21)]
    tell(doctor, started(events), *steps, events.validated(20))
    assert "could not judge" in caplog.text
    assert "a fault in the doctor" in caplog.text
