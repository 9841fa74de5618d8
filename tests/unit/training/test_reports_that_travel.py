"""Where a device keeps a report for a while, as a GPU does, the run tells the same in the same order."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

import detrkit
from detrkit.training import step
from detrkit.training.events import Interrupted, Stepped, Validated


class Arrival:
    """Stands for the event of a GPU, and notes when somebody waits for it."""

    waited_for = 0

    def synchronize(self) -> None:
        Arrival.waited_for += 1


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(values: Tensor) -> tuple[Tensor, Arrival]:
        return values.clone(), Arrival()

    monkeypatch.setattr(step, "_send", send)
    monkeypatch.setattr(Arrival, "waited_for", 0)


@pytest.fixture
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    return small_detr | {
        "train.max_steps": 7,
        "train.checkpoint_every": 2,
        "train.validate_every": 1.5,
        "data.batch_size": 2,
    }


@pytest.fixture
def data(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path / "data", train=[2, 1, 0, 3], val=[1])


def told(events: list[object]) -> list[object]:
    """Which steps and validations were told of, and the losses."""
    return [
        (event.step, event.loss, event.terms) if isinstance(event, Stepped) else ("validated", event.step)
        for event in events
        if isinstance(event, Stepped | Validated)
    ]


def test_events_and_losses_are_the_same(
    tmp_path: Path, data: Path, settings: dict[str, object], request: pytest.FixtureRequest
) -> None:
    at_once = list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "at once"))
    request.getfixturevalue("later")
    travelled = list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "later"))
    assert told(travelled) == told(at_once)
    assert [event.step for event in travelled if isinstance(event, Stepped)] == list(range(1, 8))
    assert Arrival.waited_for == 7


@pytest.mark.usefixtures("later")
def test_every_step_is_told_before_an_interrupted_run_ends(
    tmp_path: Path, data: Path, settings: dict[str, object]
) -> None:
    events = []
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "run"):
        events.append(event)
        if isinstance(event, Stepped) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(events[-1], Interrupted)
    assert [event.step for event in events if isinstance(event, Stepped)] == list(
        range(1, events[-1].step + 1)
    )
