"""What a run of a note takes on this machine: its start, a step, and a validation."""

import time
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.subset import take_images
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Interrupted, Stepped, Validated
from detrkit.training.prepare import read_catalog
from detrkit.tuning.pace import Pace

_WARM_UP, _TIMED = 2, 6

_VALIDATED = 64
"""A validation of so many images is timed, and one of all is taken to last in proportion."""


def measure_pace(experiment: Experiment, data: Path, val_split: str) -> Pace:
    """Seconds until the first step, of a step, and of a validation on all images; nothing of it is kept.

    Raises:
        KeyboardInterrupt: when asked to stop.
    """
    factor = 1.0

    def read(folder: Path, split: str) -> Catalog:
        nonlocal factor
        catalog = read_catalog(folder, split)
        if split != val_split or len(catalog) <= _VALIDATED:
            return catalog
        factor = len(catalog) / _VALIDATED
        return take_images(catalog, np.arange(_VALIDATED))

    begun, first, steps, validation = time.perf_counter(), 0.0, list[float](), 0.0
    with (
        TemporaryDirectory() as folder,
        closing(fit(_short(experiment), data, folder, read_data=read)) as events,
    ):
        for event in events:
            match event:
                case Stepped():
                    first = first or time.perf_counter() - begun
                    steps.append(event.seconds)
                case Validated():
                    validation = event.seconds
                case Interrupted():
                    raise KeyboardInterrupt
                case _:
                    pass
    step = median(steps[_WARM_UP:])
    return Pace(max(first - step, 0.0), step, factor * validation)


def _short(experiment: Experiment) -> Experiment:
    """The settings for a few steps and a validation; without trackers, which would miss the folder."""
    length = {
        "budget": None,
        "max_steps": _WARM_UP + _TIMED,
        "validate_every": 1e9,
        "patience": None,
        "trackers": (),
    }
    # a rate at which nothing can diverge, since so short a run has no time to warm up
    slow = {"lr": 1e-8, "backbone_lr": min(1e-8, experiment.optim.backbone_lr)}
    return experiment.model_copy(
        update={
            "train": experiment.train.model_copy(update=length),
            "optim": experiment.optim.model_copy(update=slow),
        }
    )
