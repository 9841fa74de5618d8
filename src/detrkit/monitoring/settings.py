"""The settings of a run, as its folder keeps them."""

from pathlib import Path

from detrkit.reading import require_file
from detrkit.settings.experiment import Experiment, recipe


def read_settings(path: Path) -> Experiment:
    """What an ``experiment.toml`` says; OSError where it is no file, DetrkitError where it is damaged."""
    require_file(path)
    return recipe(str(path))
