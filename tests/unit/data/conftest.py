import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detrkit.catalog import Catalog, Category
from detrkit.data.shapes import ShapesSettings, write_shapes

Content = dict[str, list[dict[str, Any]]]


@pytest.fixture
def content() -> Content:
    """A COCO json with sparse ids in no order, a crowd, boxes reaching outside and an empty image."""
    return {
        "images": [
            {"id": 70, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "inner/a.png", "width": 20, "height": 50},
            {"id": 12, "file_name": "c.png", "width": 10, "height": 10},
        ],
        "annotations": [
            {"id": 5, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 9.5, "iscrowd": 0},
            {
                "id": 900,
                "image_id": 70,
                "category_id": 9,
                "bbox": [30.5, -2, 20, 12],
                "area": 7,
                "iscrowd": 0,
            },
            {"id": 1, "image_id": 70, "category_id": 2, "bbox": [0, 0, 40, 30], "area": 99, "iscrowd": 1},
            {"id": 8, "image_id": 70, "category_id": 2, "bbox": [4, 5, 0, 6], "area": 0, "iscrowd": 0},
            {"id": 6, "image_id": 3, "category_id": 2, "bbox": [20, 0, 5, 5], "area": 25, "iscrowd": 0},
        ],
        "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "cat"}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], tuple[Path, Path]]:
    """Writes a COCO json and its images, and returns (annotations, folder)."""

    def write(content: Any) -> tuple[Path, Path]:
        annotations, folder = tmp_path / "annotations" / "instances_some.json", tmp_path / "some"
        annotations.parent.mkdir(exist_ok=True)
        annotations.write_text(json.dumps(content))
        (folder / "inner").mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(("b.png", "inner/a.png", "c.png")):
            size = ((40, 30), (20, 50), (10, 10))[number]
            Image.effect_noise(size, 90).save(folder / name)
        return annotations, folder

    return write


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of shapes: 40 images of `train`, 10 of `val`."""
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    write_shapes(root, ShapesSettings(train_images=40, val_images=10))
    return root


@pytest.fixture(scope="session")
def catalog_of() -> Callable[[Sequence[Sequence[int]], int], Catalog]:
    """``catalog_of(labels, classes)`` has an image for each list of labels, and no files."""

    def catalog_of(labels: Sequence[Sequence[int]], classes: int) -> Catalog:
        """One image for each list of labels."""
        counts = [len(one) for one in labels]
        total = sum(counts)
        return Catalog(
            source=Path("some.json"),
            folder=Path("some"),
            categories=tuple(Category(label, f"class {label}") for label in range(classes)),
            image_ids=np.arange(len(labels)),
            file_names=np.array([f"{number}.png" for number in range(len(labels))]),
            widths=np.full(len(labels), 9),
            heights=np.full(len(labels), 9),
            offsets=np.cumsum([0, *counts]),
            annotation_ids=np.arange(total),
            boxes=np.tile([0.0, 0.0, 3.0, 3.0], (total, 1)),
            labels=np.array([label for one in labels for label in one], np.int64),
            areas=np.full(total, 9.0),
            crowds=np.zeros(total, np.bool_),
        )

    return catalog_of
