"""A network as a detector, with the settings that it was or would be trained with."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, assert_never

import torch

from detrkit.benchmark.entrant import Untrained, Weights
from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.inference.load import load, read
from detrkit.settings.experiment import Experiment, recipe


class Opened(NamedTuple):
    """A detector in evaluation mode, and its settings."""

    detector: Detector
    experiment: Experiment


def open_network(
    network: Weights | Untrained,
    categories: tuple[Category, ...],
    device: torch.device,
    overrides: Mapping[str, object],
) -> Opened:
    """The detector; a recipe's is built for ``categories``, with random weights that are always the same.

    Raises:
        DetrkitError: It cannot be read, or has no setting of a name that is overridden.
    """
    match network:
        case Weights(path):
            return Opened(load(path, device, overrides), read(path, overrides).experiment)
        case Untrained(name):
            experiment = recipe(name, overrides)
            torch.manual_seed(0)
            return Opened(build_detector(experiment, categories).eval().to(device), experiment)
        case _:
            assert_never(network)


def weight_files(path: Path) -> list[Path]:
    """The files of weights in a folder of any kind, the file itself, or none of what has only a name."""
    return [path] if path.is_file() else sorted(path.glob("*.safetensors"))
