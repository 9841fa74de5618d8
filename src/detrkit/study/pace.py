"""How long a step of a recipe takes on this machine."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from detrkit.errors import AskedToStop
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Event, Interrupted, Started, Stepped
from detrkit.training.fit import fit

_WARM_UP, _TIMED = 4, 20


class Pace(NamedTuple):
    """Seconds of a step, with its waiting for data, and what a step and the dataset hold."""

    seconds: float
    images_per_step: int
    train_images: int
    val_images: int


def measure_pace(experiment: Experiment, data: Path) -> Pace:
    """The median of twenty steps of the very loop that trains, after four; nothing of them is kept.

    Raises:
        KeyboardInterrupt: when SIGTERM or Ctrl-C asked to stop.
    """
    # so long that no validation and no drop of the rate comes into it
    train = experiment.train.model_copy(
        update={
            "budget": None,
            "max_steps": 1000 * (_WARM_UP + _TIMED),
            "validate_every": 1e9,
            "patience": None,
        }
    )
    experiment = experiment.model_copy(update={"train": train})
    with TemporaryDirectory() as folder, closing(fit(experiment, data, folder)) as events:
        started = next(events)
        assert isinstance(started, Started)
        seconds = list(islice(_seconds(events), _WARM_UP + _TIMED))
    return Pace(
        seconds=median(seconds[_WARM_UP:]),
        images_per_step=started.length.images_per_step,
        train_images=started.length.num_images,
        val_images=started.val_images,
    )


def _seconds(events: Iterator[Event]) -> Iterator[float]:
    for event in events:
        if isinstance(event, Interrupted):
            raise AskedToStop(event.signal)
        if isinstance(event, Stepped):
            yield event.seconds
