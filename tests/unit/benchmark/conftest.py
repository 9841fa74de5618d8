"""A dataset of noise that detectors look at."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("benchmark") / "coco", val=[2, 0, 1, 3, 1])


@pytest.fixture(scope="session")
def one_image(data: Path) -> Catalog:
    """Its first image is 64 x 64."""
    return read_split(data, "val")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, small_detr: dict[str, object]) -> Path:
    """A recipe of a small DETR."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in small_detr.items()))
    return path
