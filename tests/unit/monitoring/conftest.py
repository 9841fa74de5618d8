from collections.abc import Callable
from pathlib import Path

import pytest

from detrkit.evaluation.coco import ClassMetrics, Metrics
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Finished, Interrupted, Started, Stepped, Validated
from detrkit.training.schedule import Length


class Events:
    """The events of a run of 40 steps of 2 images, of which there are 16."""

    length = Length(steps=40, images_per_step=2, num_images=16)

    def __init__(self, out: Path) -> None:
        self.out = out

    def started(self, step: int = 0, notes: list[str] | None = None) -> Started:
        return Started(step, self.length, 5, 1_234, 56_789, "cpu", 1, Experiment(), self.out, notes or [])

    def stepped(self, step: int, loss: float | None = None, data_seconds: float = 0.125) -> Stepped:
        terms = {"l1": [0.5 * step, 0.25 * step], "mean": [0.1]}
        rates = {"backbone": 1e-5, "rest": 3e-4}
        value = 10.0 / step if loss is None else loss
        return Stepped(
            step,
            self.length.epoch(step),
            value,
            terms,
            gradient_norm=7.5,
            gradient_norms={"backbone": 4.5, "rest": 6.0},
            update_ratios={"backbone": 1e-4, "rest": 2e-3} if step % 2 else None,
            learning_rates=rates,
            images=2,
            seconds=0.5,
            data_seconds=data_seconds,
            memory=1_000_000 + step,
        )

    def validated(self, step: int, kept: bool = True, raw: bool = False) -> Validated:
        judged, weights = (
            Metrics(
                *(number / scale for number in range(1, 13)),
                per_class={"кошка": ClassMetrics(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, objects=3)},
            )
            for scale in (100, 200)
        )
        beside = (weights, 0.5) if raw else ()
        return Validated(step, self.length.epoch(step), judged, kept, 1.5, *beside)

    def interrupted(self, step: int) -> Interrupted:
        return Interrupted(step, self.out)

    def finished(self, step: int) -> Finished:
        return Finished(step, 0.421, 32, "every step is done", self.out)


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path)


@pytest.fixture
def tell() -> Callable:
    def tell(listener: Callable, *told: object) -> None:
        for event in told:
            listener(event)

    return tell
