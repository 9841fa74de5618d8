"""Shapes in signatures are checked while the tests run; real data is read where it is said to lie."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores test at once: one thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
install_import_hook("detrkit", "beartype.beartype")
os.environ.setdefault("DETRKIT_CACHE", "off")  # no test touches the user's cache

SMALL_DETR = {
    "model.backbone.name": "resnet18",
    "model.backbone.weights": "none",
    "model.transformer.width": 32,
    "model.transformer.heads": 4,
    "model.transformer.feedforward": 64,
    "model.transformer.dropout": 0.0,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 5,
    "data.short_sides": [64],
    "data.max_size": 64,
    "data.crop_probability": 0.0,
    "data.workers": 0,
}
"""A DETR that takes a fraction of a second per step, on images of one size."""


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Commands that end by a signal ignore those after it, up to the end of their process."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden arrays."""
    folder = os.environ.get("DETRKIT_SHARED")
    if not folder:
        pytest.skip("DETRKIT_SHARED is not set, so the real data is not at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def small_detr() -> dict[str, object]:
    return dict(SMALL_DETR)


@pytest.fixture(scope="session")
def write_coco() -> Callable[..., Path]:
    """Writes a dataset of noise with boxes at random: ``write_coco(root, train=[3, 0, 1], val=[2])``."""

    def write(root: Path, side: int = 64, **splits: list[int]) -> Path:
        (root / "annotations").mkdir(parents=True)
        for split, counts in splits.items():
            rng = np.random.default_rng(len(counts))
            (root / split).mkdir()
            images, annotations = [], []
            for number, count in enumerate(counts, start=1):
                name = f"{number:04d}.png"
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name)
                images.append({"id": number, "file_name": name, "width": side, "height": side})
                for _ in range(count):
                    x, y = rng.uniform(0, side / 2, 2).round(2).tolist()
                    width, height = rng.uniform(side / 8, side / 2, 2).round(2).tolist()
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": number,
                            "category_id": int(rng.integers(1, 4)),
                            "bbox": [x, y, width, height],
                            "area": width * height,
                            "iscrowd": 0,
                        }
                    )
            categories = [{"id": number, "name": f"class {number}"} for number in (1, 2, 3)]
            tree = {"images": images, "annotations": annotations, "categories": categories}
            (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
        return root

    return write


@pytest.fixture
def checkpoint(tmp_path: Path, small_detr: dict[str, object]) -> Path:
    """The file of a small detector with random weights, for the classes that `write_coco` writes."""
    # imported here, since the hook above must come first
    import torch

    from detrkit.catalog import Category
    from detrkit.detectors.build import build_detector
    from detrkit.settings.experiment import recipe
    from detrkit.weights import store

    torch.manual_seed(0)
    experiment = recipe("detr_r50", small_detr)
    categories = tuple(Category(number, f"class {number}") for number in (1, 2, 3))
    path = tmp_path / "model.safetensors"
    store.write(path, build_detector(experiment, categories).state_dict(), experiment, categories)
    return path
