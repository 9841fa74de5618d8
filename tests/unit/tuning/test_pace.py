from collections.abc import Generator
from pathlib import Path

import pytest

from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import Metrics
from detrkit.settings.experiment import Experiment, recipe
from detrkit.training.events import Event, Finished, Interrupted, Started, Stepped, Validated
from detrkit.training.schedule import Length
from detrkit.tuning.pace import measure, try_out

SETTINGS = recipe("shapes", {"train.patience": 3})


def events(experiment: Experiment, folder: Path) -> Generator[Event]:
    """A run whose first steps are slow, and all others take 0.5 s but for one."""
    steps = experiment.train.max_steps or 0
    yield Started(0, Length(steps, 16, 1000), 50, 1, 1, "cpu", 1, experiment, folder, [])
    for step in range(1, steps + 1):
        seconds = 9.0 if step < 4 or step == 7 else 0.5
        yield Stepped(step, 0.0, 1.0, {}, 1.0, {}, None, {"rest": 1e-3}, 16, seconds, 0.0, 0)
    metrics = Metrics(*[0.0] * 12, per_class={})
    yield Validated(steps, 0.1, metrics, True, seconds=2.5)
    yield Finished(steps, 0.0, steps, "every step is done", folder)


def test_the_pace_is_the_median_of_the_steps_after_the_first_and_one_validation() -> None:
    pace = measure(SETTINGS, events)
    assert (pace.step, pace.validation) == (0.5, 2.5)
    assert pace.start >= 0


def test_a_fault_in_the_data_shows_before_a_trial() -> None:
    def faulty(experiment: Experiment, folder: Path) -> Generator[Event]:
        raise DetrkitError("there are no images.")
        yield

    with pytest.raises(DetrkitError, match="no images"):
        try_out(SETTINGS, faulty)


def test_whoever_asks_to_stop_is_heard_while_it_is_measured() -> None:
    def stopped(experiment: Experiment, folder: Path) -> Generator[Event]:
        yield from (event for event, _ in zip(events(experiment, folder), range(3), strict=False))
        yield Interrupted(2, folder)

    with pytest.raises(KeyboardInterrupt):
        measure(SETTINGS, stopped)
