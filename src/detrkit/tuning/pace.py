"""What a trial takes on this machine, measured with the very loop that trains."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from detrkit.errors import AskedToStop
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Event, Interrupted, Started, Stepped, Validated
from detrkit.tuning.plan import Pace

Train = Callable[[Experiment, Path], Generator[Event]]
"""Trains with these settings into a folder."""


def try_out(experiment: Experiment, train: Train) -> Started:
    """What a run with these settings begins with, so that faults in them or in the data show at once.

    Raises:
        DetrkitError: the fault.
    """
    tried = _changed(experiment, {})
    with TemporaryDirectory() as folder, closing(train(tried, Path(folder))) as events:
        started = next(events)
    assert isinstance(started, Started)
    return started


def measure(experiment: Experiment, train: Train, steps: int = 15) -> Pace:
    """What a run takes: the median of some ``steps``, one validation, and the time until the first step.

    The first quarter of the steps warms up. Nothing of them is kept.

    Raises:
        KeyboardInterrupt: when asked to stop.
    """
    length: dict[str, object] = {
        "budget": None,
        "max_steps": steps,
        "validate_every": 1e9,
        "patience": None,
    }
    short = _changed(experiment, length)
    with TemporaryDirectory() as folder:
        begun, first, seconds, validation = time.perf_counter(), 0.0, [], 0.0
        with closing(train(short, Path(folder))) as events:
            for event in events:
                match event:
                    case Stepped():
                        first = first or time.perf_counter() - begun
                        seconds.append(event.seconds)
                    case Validated():
                        validation = event.seconds
                    case Interrupted():
                        raise AskedToStop(event.signal)
                    case _:
                        pass
    step = median(seconds[steps // 4 :])
    return Pace(max(first - step, 0.0), step, validation)


def _changed(experiment: Experiment, changes: dict[str, object]) -> Experiment:
    """The settings with others for training; without trackers, whose threads would miss the folder."""
    train = experiment.train.model_copy(update=changes | {"trackers": ()})
    return experiment.model_copy(update={"train": train})
