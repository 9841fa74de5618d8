from pathlib import Path

import pytest
import torch

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.settings.experiment import recipe
from detrkit.weights import store


@pytest.fixture
def checkpoint(tmp_path: Path, small_detr: dict[str, object]) -> Path:
    """The file of a small detector with random weights, for the classes that `write_coco` writes."""
    torch.manual_seed(0)
    experiment = recipe("detr_r50", small_detr)
    categories = tuple(Category(number, f"class {number}") for number in (1, 2, 3))
    path = tmp_path / "model.safetensors"
    store.write(path, build_detector(experiment, categories).state_dict(), experiment, categories)
    return path
