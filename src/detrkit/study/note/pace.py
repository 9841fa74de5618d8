"""What a run of a note takes on this machine: its start, a step, and a validation."""

from collections.abc import Generator
from pathlib import Path

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.data.subset import take_images
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Event
from detrkit.tuning.pace import Pace, measure

_STEPS = 8
"""How many are timed, the first quarter of which warms up."""

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
        catalog = read_split(folder, split)
        if split != val_split or len(catalog) <= _VALIDATED:
            return catalog
        factor = len(catalog) / _VALIDATED
        return take_images(catalog, np.arange(_VALIDATED))

    def train(settings: Experiment, folder: Path) -> Generator[Event]:
        return fit(settings, data, folder, read_data=read)

    pace = measure(_at_rest(experiment), train, _STEPS)
    return pace._replace(validation=factor * pace.validation)


def _at_rest(experiment: Experiment) -> Experiment:
    """At a rate at which nothing can diverge, since so short a run has no time to warm up."""
    slow = {"lr": 1e-8, "backbone_lr": min(1e-8, experiment.optim.backbone_lr)}
    return experiment.model_copy(update={"optim": experiment.optim.model_copy(update=slow)})
