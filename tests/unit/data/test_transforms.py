import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from detrkit.data.images import read_image
from detrkit.data.transforms import (
    RandomCrop,
    evaluation_transform,
    resized_size,
    training_transform,
    without_empty_boxes,
)
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample


def size_in_the_original_code(w: int, h: int, size: int, max_size: int | None) -> tuple[int, int]:
    """`get_size_with_aspect_ratio` of DETR's datasets/transforms.py (Apache-2.0): (height, width)."""
    if max_size is not None:
        min_original_size = float(min((w, h)))
        max_original_size = float(max((w, h)))
        if max_original_size / min_original_size * size > max_size:
            size = round(max_size * min_original_size / max_original_size)
    if (w <= h and w == size) or (h <= w and h == size):
        return (h, w)
    if w < h:
        ow = size
        oh = int(size * h / w)
    else:
        oh = size
        ow = int(size * w / h)
    return (oh, ow)


def sample_of(image: torch.Tensor, boxes: list[list[float]], labels: list[int] | None = None) -> Sample:
    size = (image.shape[1], image.shape[2])
    return Sample(
        image=tv_tensors.Image(image),
        boxes=tv_tensors.BoundingBoxes(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), format="XYXY", canvas_size=size
        ),
        labels=torch.tensor(labels if labels is not None else range(len(boxes)), dtype=torch.int64),
        image_id=1,
        original_size=size,
    )


def coordinates(height: int, width: int) -> torch.Tensor:
    """An image whose red is the column of a pixel, and its green the row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)]).to(torch.uint8)


@pytest.mark.parametrize("short_side", [400, 480, 512, 800])
@pytest.mark.parametrize("max_size", [1333, None])
def test_sizes_of_real_images_are_the_originals(shared: Path, short_side: int, max_size: int | None) -> None:
    images = [
        image
        for split in ("train2017", "val2017")
        for image in json.loads((shared / f"coco-mini/annotations/instances_{split}.json").read_text())[
            "images"
        ]
    ]
    assert len(images) == 376
    for image in images:
        expected = size_in_the_original_code(image["width"], image["height"], short_side, max_size)
        assert resized_size(image["height"], image["width"], short_side, max_size) == expected


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(16, 1000), st.integers(1000, 2000))
def test_sizes_of_any_image(height: int, width: int, short_side: int, max_size: int) -> None:
    expected = size_in_the_original_code(width, height, short_side, max_size)
    found = resized_size(height, width, short_side, max_size)
    assert found == expected or (min(expected) == 0 and min(found) == 1)


@pytest.mark.parametrize("short_side", [96, 800])
def test_pixels_are_those_of_pillow(shared: Path, short_side: int) -> None:
    folder = shared / "coco-mini" / "val2017"
    for path in sorted(folder.iterdir())[:6]:
        image = tv_tensors.Image(read_image(path))
        found = evaluation_transform(ImageSize(short_side, 1333))(image)
        size = (found.shape[2], found.shape[1])
        expected = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR))
        difference = np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected.astype(int))
        assert difference.max() <= 2


def test_evaluation_resizes_boxes_with_the_image() -> None:
    sample = sample_of(coordinates(50, 100), [[10, 5, 100, 50]])
    resized = evaluation_transform(ImageSize(100, 1333))(sample)
    assert resized.image.shape == (3, 100, 200)
    assert resized.boxes.tolist() == [[20, 10, 200, 100]]
    assert resized.original_size == (50, 100)


def test_a_flip_mirrors_pixels_and_boxes() -> None:
    settings = DataSettings(flip=1, crop_probability=0, short_sides=(50,))
    sample = sample_of(coordinates(50, 100), [[10, 5, 40, 50], [0, 0, 100, 50]])
    flipped = training_transform(settings)(sample)
    assert torch.equal(flipped.image, sample.image.flip(2))
    assert flipped.boxes.tolist() == [[60, 5, 90, 50], [0, 0, 100, 50]]


def test_a_crop_clips_boxes_and_drops_those_outside() -> None:
    boxes = [[x, y, x + 30, y + 20] for y in range(0, 180, 20) for x in range(0, 210, 30)]
    sample = sample_of(coordinates(200, 240), boxes, labels=list(range(100, 100 + len(boxes))))
    sizes = set()
    for seed in range(100):
        torch.manual_seed(seed)
        cropped = without_empty_boxes(RandomCrop(50, 90)(sample))
        left, top = int(cropped.image[0, 0, 0]), int(cropped.image[1, 0, 0])
        height, width = cropped.image.shape[1:]
        assert torch.equal(cropped.image, sample.image[:, top : top + height, left : left + width])
        expected = []
        for label, (x1, y1, x2, y2) in enumerate(boxes, start=100):
            inside = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)]
            if inside[2] > inside[0] and inside[3] > inside[1]:
                expected.append((label, inside))
        assert cropped.labels.tolist() == [label for label, _ in expected]
        assert cropped.boxes.tolist() == [box for _, box in expected]
        sizes |= {height, width}
    assert min(sizes) >= 50
    assert max(sizes) <= 90
    assert len(sizes) > 30


def test_a_crop_of_an_image_smaller_than_its_bounds() -> None:
    sample = sample_of(coordinates(20, 70), [[0, 0, 70, 20]])
    for seed in range(30):
        torch.manual_seed(seed)
        cropped = RandomCrop(50, 90)(sample)
        assert cropped.image.shape[1] == 20
        assert 50 <= cropped.image.shape[2] <= 70


def test_boxes_still_fit_what_is_drawn_after_all_of_it() -> None:
    settings = DataSettings(
        short_sides=(60, 80, 100), max_size=150, crop_short_sides=(70, 90), crop_sides=(40, 80)
    )
    image = torch.zeros(3, 60, 110, dtype=torch.uint8)
    image[:, 12:43, 25:81] = 255
    sample = sample_of(image, [[25, 12, 81, 43]])
    sizes = set()
    for seed in range(200):
        torch.manual_seed(seed)
        result = training_transform(settings)(sample)
        sizes.add(result.image.shape[1:])
        bright = result.image[0] > 127
        rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
        for box in result.boxes.tolist():
            if min(box[2] - box[0], box[3] - box[1]) < 4:
                continue
            drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.array(box) - np.array(drawn)).max() <= 1.5
        assert result.boxes.canvas_size == result.image.shape[1:]
    assert len(sizes) > 50
    assert all(max(size) <= 151 for size in sizes)


def test_an_image_without_objects_keeps_its_shape_of_boxes() -> None:
    settings = DataSettings(
        short_sides=(64,), crop_short_sides=(64,), crop_sides=(32, 64), crop_probability=1
    )
    result = training_transform(settings)(sample_of(coordinates(80, 90), []))
    assert result.boxes.shape == (0, 4)
    assert result.labels.shape == (0,)


@pytest.mark.parametrize(("flip", "crop"), [(0.5, 0.5), (0.2, 0.9), (0, 1), (1, 0)])
def test_how_often_images_are_flipped_and_cropped(flip: float, crop: float) -> None:
    settings = DataSettings(
        flip=flip, crop_probability=crop, short_sides=(20, 24), crop_short_sides=(20,), crop_sides=(4, 5)
    )
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    image[0] = torch.arange(20) * 10
    transform, flipped, cropped, sides, runs = training_transform(settings), 0, 0, [], 1000
    torch.manual_seed(0)
    for _ in range(runs):
        result = transform(sample_of(image, [])).image
        flipped += int(result[0, 0, 0] > result[0, 0, -1])
        cropped += int(result[0].max().int() - result[0].min().int() < 100)
        sides.append(min(result.shape[1:]))
    five_deviations = 5 * np.sqrt(0.25 / runs)
    assert abs(flipped / runs - flip) <= five_deviations * (0 < flip < 1)
    assert abs(cropped / runs - crop) <= five_deviations * (0 < crop < 1)
    assert set(sides) == {20, 24}
    assert abs(sides.count(20) / runs - 0.5) < five_deviations
