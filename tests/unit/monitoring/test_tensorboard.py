from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detrkit.monitoring.tensorboard import TensorBoard


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return {
        name: [(point.step, pytest.approx(point.value)) for point in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def test_tensorboard_reads_every_number_under_its_step(events: Any, tell: Callable, tmp_path: Path) -> None:
    told = [events.stepped(1), events.stepped(2), events.validated(2), events.finished(2)]
    tell(TensorBoard(tmp_path), events.started(), *told)
    found = curves(tmp_path)
    figures = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert found.pop("train/loss") == [(1, 10.0), (2, 5.0)]
    assert found.pop("train/gradient_norm") == [(1, 7.5), (2, 7.5)]
    assert found.pop("train/l1/layer1") == [(1, 0.5), (2, 1.0)]
    assert found.pop("train/l1/layer2") == [(1, 0.25), (2, 0.5)]
    assert found.pop("train/mean") == [(1, 0.1), (2, 0.1)]
    assert found.pop("rate/backbone") == [(1, 1e-5), (2, 1e-5)]
    assert found.pop("rate/rest") == [(1, 3e-4), (2, 3e-4)]
    assert found == {
        f"validation/{name}": [(2, number / 100)] for number, name in enumerate(figures, start=1)
    }


def test_a_resumed_runs_curve_has_every_step_once(events: Any, tell: Callable, tmp_path: Path) -> None:
    steps = [events.stepped(step) for step in (1, 2, 3, 4)]
    tell(TensorBoard(tmp_path), events.started(), *steps, events.interrupted(4))
    again = [events.stepped(step, loss=0.5) for step in (3, 4, 5)]
    tell(TensorBoard(tmp_path), events.started(step=2), *again, events.finished(5))
    assert curves(tmp_path)["train/loss"] == [(1, 10.0), (2, 5.0), (3, 0.5), (4, 0.5), (5, 0.5)]
