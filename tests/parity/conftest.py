"""The original code's outputs for known weights and inputs (``golden/``), and the same case here.

``golden/weights.py`` rebuilds the weights from names and shapes; the arrays were computed by the original.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from detrkit.inference.load import load
from detrkit.structures import Images, Objects

FOLDER = Path(__file__).parent / "golden"


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _module()


class Case(NamedTuple):
    """One golden case: how it was run, what came out, and its inputs."""

    name: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    images: Images
    objects: list[Objects]


def golden_state(name: str) -> dict[str, torch.Tensor]:
    keys = json.loads((FOLDER / "keys.json").read_text())[name]
    return {key: torch.from_numpy(golden.fill(key, tuple(shape))) for key, shape in keys.items()}


def golden_images(seed: int, sizes: list[tuple[int, int]]) -> Images:
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    pixels = torch.zeros(len(sizes), 3, height, width)
    valid = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    for row, image in enumerate(golden.images(seed, sizes)):
        pixels[row, :, : image.shape[1], : image.shape[2]] = torch.from_numpy(image)
        valid[row, : image.shape[1], : image.shape[2]] = True
    return Images(pixels, valid)


@pytest.fixture(scope="session", params=["detr_r50", "detr_r101"])
def case(request: pytest.FixtureRequest) -> Case:
    settings = json.loads((FOLDER / f"{request.param}.json").read_text())
    targets = golden.targets(settings["seed"] + 1, settings["counts"])
    objects = [
        Objects(torch.from_numpy(target["boxes"]), torch.from_numpy(target["labels"])) for target in targets
    ]
    images = golden_images(settings["seed"], [tuple(size) for size in settings["sizes"]])
    return Case(request.param, settings, dict(np.load(FOLDER / f"{request.param}.npz")), images, objects)


@pytest.fixture(scope="session")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a checkpoint in the original's layout with a case's golden weights."""
    folder = tmp_path_factory.mktemp("official")

    def write(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            torch.save({"model": golden_state(name)}, path)
        return path

    return write


@pytest.fixture
def detector(case: Case, official_file: Callable[[str], Path]) -> Any:
    overrides = {"model.backbone.dilation": False, "model.transformer.dropout": 0.0}
    return load(official_file(case.name), overrides=overrides)
