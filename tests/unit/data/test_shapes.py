import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.ops import masks_to_boxes

from detrkit.data.formats.recognise import read_split, splits
from detrkit.data.shapes import ShapesSettings, shapes_image, write_shapes
from detrkit.errors import DetrkitError

SMALL = ShapesSettings(train_images=6, val_images=3)


def annotated(root: Path, split: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each image of the json and its annotations, in the order in which they were drawn."""
    content = json.loads((root / f"annotations/instances_{split}.json").read_text())
    return [
        (image, [one for one in content["annotations"] if one["image_id"] == image["id"]])
        for image in content["images"]
    ]


def test_the_defaults_are_the_promised_ones() -> None:
    settings = ShapesSettings()
    assert (settings.train_images, settings.val_images, settings.image_size) == (2000, 200, 128)
    assert (settings.num_shapes, settings.sides, settings.overlap) == ((1, 5), (14, 60), 0.3)


def test_the_layout_is_cocos(shapes: Path) -> None:
    assert splits(shapes) == ["train", "val"]
    for split, count in (("train", 40), ("val", 10)):
        catalog = read_split(shapes, split)
        assert len(catalog) == count
        names = ["rectangle", "ellipse", "triangle", "diamond"]
        assert [category[:2] for category in catalog.categories] == list(enumerate(names, start=1))
        assert sorted(path.name for path in catalog.folder.iterdir()) == sorted(catalog.file_names)
        assert Image.open(catalog.path(0)).size == (128, 128)


def test_boxes_and_areas_are_those_of_the_drawn_pixels(shapes: Path) -> None:
    for index, (image, annotations) in enumerate(annotated(shapes, "train")):
        drawn = shapes_image(ShapesSettings(), "train", index)
        np.testing.assert_array_equal(
            np.asarray(Image.open(shapes / "train" / image["file_name"])), drawn.pixels
        )
        corners = masks_to_boxes(torch.from_numpy(drawn.masks)) + torch.tensor([0, 0, 1, 1])
        sizes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        assert [one["bbox"] for one in annotations] == sizes.tolist()
        assert [one["area"] for one in annotations] == [mask.sum() for mask in drawn.masks]
        assert [one["category_id"] for one in annotations] == (drawn.labels + 1).tolist()


def test_the_last_shape_is_found_in_the_file_by_its_colour(shapes: Path) -> None:
    for image, annotations in annotated(shapes, "train"):
        pixels = np.asarray(Image.open(shapes / "train" / image["file_name"]))
        x, y, width, height = (int(value) for value in annotations[-1]["bbox"])
        inside = pixels[y : y + height, x : x + width]
        colour = inside[height // 2, width // 2]
        same = (inside == colour).all(axis=2)
        assert same.any(axis=0).all()
        assert same.any(axis=1).all()
        assert abs(int(same.sum()) - annotations[-1]["area"]) <= 2


@pytest.mark.parametrize(("kind", "part"), [(1, 1.0), (2, np.pi / 4), (3, 0.5), (4, 0.5)])
def test_a_shape_fills_its_part_of_the_box(shapes: Path, kind: int, part: float) -> None:
    found = [
        one
        for _, annotations in annotated(shapes, "train")
        for one in annotations
        if one["category_id"] == kind
    ]
    assert len(found) >= 5
    for one in found:
        _, _, width, height = one["bbox"]
        assert abs(one["area"] - part * width * height) <= 0.6 * (width + height)


def test_limits_hold(shapes: Path) -> None:
    counts = set()
    for _, annotations in annotated(shapes, "train"):
        counts.add(len(annotations))
        boxes = [one["bbox"] for one in annotations]
        for number, (x, y, w, h) in enumerate(boxes):
            assert 0 <= x <= 128 - w
            assert 0 <= y <= 128 - h
            assert 14 <= w <= 60
            assert 14 <= h <= 60
            for u, v, s, t in boxes[:number]:
                shared = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + t) - max(y, v))
                assert shared <= 0.3 * min(w * h, s * t)
    assert counts == {1, 2, 3, 4, 5}


def test_a_shape_stands_out_from_a_plain_background(tmp_path: Path) -> None:
    settings = ShapesSettings(
        train_images=40, val_images=1, num_shapes=(1, 1), background_range=0, contrast=150, image_size=64
    )
    write_shapes(tmp_path / "plain", settings)
    for path in (tmp_path / "plain" / "train").iterdir():
        colours = np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0).astype(float)
        assert len(colours) == 2
        assert np.linalg.norm(colours[0] - colours[1]) >= 150


def test_an_image_depends_on_seed_split_and_index_alone(tmp_path: Path) -> None:
    write_shapes(tmp_path / "few", SMALL)
    write_shapes(tmp_path / "more", ShapesSettings(train_images=8, val_images=3))
    write_shapes(tmp_path / "other", ShapesSettings(train_images=6, val_images=3, seed=1))
    for path in sorted((tmp_path / "few" / "train").iterdir()):
        assert path.read_bytes() == (tmp_path / "more" / "train" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / "train" / path.name).read_bytes()
    first = [(tmp_path / "few" / split / "000000.png").read_bytes() for split in ("train", "val")]
    assert first[0] != first[1]


def test_the_same_shapes_are_not_written_again(tmp_path: Path) -> None:
    assert write_shapes(tmp_path / "here", SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*")}
    assert not write_shapes(tmp_path / "here", SMALL)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*")} == before


def test_an_empty_folder_may_be_written_to(tmp_path: Path) -> None:
    write_shapes(tmp_path, SMALL)
    assert len(list((tmp_path / "train").iterdir())) == 6


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    write_shapes(tmp_path / "here", SMALL)
    with pytest.raises(DetrkitError, match="here holds shapes of other settings"):
        write_shapes(tmp_path / "here", SMALL.model_copy(update={"seed": 1}))
    (tmp_path / "here" / "shapes.toml").unlink()
    with pytest.raises(DetrkitError, match="here holds something else, or shapes that were not finished"):
        write_shapes(tmp_path / "here", SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(DetrkitError, match="file holds something else"):
        write_shapes(tmp_path / "file", SMALL)


def test_images_may_be_empty(tmp_path: Path) -> None:
    write_shapes(tmp_path / "empty", ShapesSettings(train_images=30, val_images=1, num_shapes=(0, 1)))
    counts = [len(annotations) for _, annotations in annotated(tmp_path / "empty", "train")]
    assert set(counts) == {0, 1}


def test_shapes_that_cannot_fit(tmp_path: Path) -> None:
    settings = ShapesSettings(num_shapes=(15, 15), sides=(55, 60))
    with pytest.raises(DetrkitError, match="15 shapes with sides from 55 pixels find no room"):
        write_shapes(tmp_path / "full", settings)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_shapes": (5, 1)}, "num_shapes is .5, 1."),
        ({"sides": (60, 14)}, "sides is .60, 14."),
        ({"sides": (14, 200)}, "sides reach 200, above image_size .128."),
        ({"overlap": 1.5}, "less than or equal to 1"),
        ({"train_images": 0}, "greater than 0"),
    ],
)
def test_settings_that_contradict(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ShapesSettings(**values)
