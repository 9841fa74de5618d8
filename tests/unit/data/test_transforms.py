import json
import pickle
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detrkit.data.dataset import SplitDataset
from detrkit.data.formats.coco import read_coco
from detrkit.data.formats.recognise import read_split
from detrkit.data.images import read_image
from detrkit.data.transforms import evaluation_transform, show, training_transform, unchanged
from detrkit.data.views import View
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample


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


def test_a_cut_clips_boxes_and_drops_those_outside() -> None:
    boxes = [[x, y, x + 30, y + 20] for y in range(0, 180, 20) for x in range(0, 210, 30)]
    sample = sample_of(coordinates(200, 240), boxes, labels=list(range(100, 100 + len(boxes))))
    random = np.random.default_rng(0)
    for _ in range(100):
        height, width = (int(side) for side in random.integers(20, 90, 2))
        left, top = int(random.integers(240 - width)), int(random.integers(200 - height))
        cut = show(sample, View((left, top, left + width, top + height), False, (height, width)))
        assert torch.equal(cut.image, sample.image[:, top : top + height, left : left + width])
        expected = []
        for label, (x1, y1, x2, y2) in enumerate(boxes, start=100):
            inside = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)]
            if inside[2] > inside[0] and inside[3] > inside[1]:
                expected.append((label, inside))
        assert cut.labels.tolist() == [label for label, _ in expected]
        assert cut.boxes.tolist() == [box for _, box in expected]


def test_a_cut_between_pixels_is_rounded_and_boxes_follow_what_was_cut() -> None:
    sample = sample_of(coordinates(50, 100), [[20, 10, 40, 30]])
    cut = show(sample, View((9.6, 5.4, 50.4, 45.4), False, (80, 80)))
    whole = sample.image[:, 5:45, 10:50]
    assert torch.equal(cut.image, functional.resize(whole, [80, 80], antialias=True))
    assert cut.boxes.tolist() == [[20, 10, 60, 50]]
    one = show(sample, View((9.6, 5.4, 9.7, 5.45), False, (2, 2)))  # less than a pixel is one pixel
    assert one.image[:2].unique().tolist() == [5, 10]


def ink(image: torch.Tensor, color: int) -> list[int]:
    """The borders of what is drawn in one of the three colours."""
    drawn = image[color] > 127
    rows, columns = drawn.any(1).nonzero()[:, 0], drawn.any(0).nonzero()[:, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@given(st.integers(0, 2**32), st.integers(60, 400), st.integers(60, 400))
@hypothesis.settings(max_examples=1000, deadline=None)
def test_boxes_fit_what_is_drawn(seed: int, height: int, width: int) -> None:
    settings = DataSettings(
        short_sides=(60, 80, 100), max_size=150, crop_short_sides=(70, 90), crop_sides=(40, 80)
    )
    random, image, boxes = np.random.default_rng(seed), torch.zeros(3, height, width, dtype=torch.uint8), []
    for color in range(3):
        left, right = np.sort(random.choice(width + 1, 2, replace=False)).tolist()
        top, bottom = np.sort(random.choice(height + 1, 2, replace=False)).tolist()
        image[color, top:bottom, left:right] = 255
        boxes.append([left, top, right, bottom])
    shown = training_transform(settings)(sample_of(image, boxes), random)
    assert shown.boxes.canvas_size == shown.image.shape[1:]
    for color, box in zip(shown.labels.tolist(), shown.boxes.tolist(), strict=True):
        if min(box[2] - box[0], box[3] - box[1]) >= 4:
            assert np.abs(np.array(box) - ink(shown.image, color)).max() <= 1.5


@pytest.mark.parametrize("reduced", [True, False])
def test_boxes_fit_what_is_drawn_in_a_reduced_file(tmp_path: Path, reduced: bool) -> None:
    settings = DataSettings(
        short_sides=(60, 80, 100),
        max_size=150,
        crop_short_sides=(70, 90),
        crop_sides=(40, 80),
        reduced_decoding=reduced,
    )
    boxes = [[101, 57, 350, 301], [203, 250, 509, 455], [411, 13, 610, 207]]
    image = np.zeros((461, 619, 3), np.uint8)
    for color, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right, color] = 255
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 619, "height": 461}],
        "annotations": [
            {"image_id": 1, "category_id": color, "bbox": [x, y, right - x, bottom - y]}
            for color, (x, y, right, bottom) in enumerate(boxes)
        ],
        "categories": [{"id": color, "name": str(color)} for color in range(3)],
    }
    (tmp_path / "some.json").write_text(json.dumps(content))
    dataset = SplitDataset(read_coco(tmp_path / "some.json", tmp_path), training_transform(settings), seed=1)
    checked = 0
    for epoch in range(100):
        sample = dataset[epoch, 0]
        for color, box in zip(sample.labels.tolist(), sample.boxes.tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) >= 4:
                assert np.abs(np.array(box) - ink(sample.image, color)).max() <= 1.5
                checked += 1
    assert checked > 150


def test_a_reduced_file_looks_like_the_whole(shared: Path) -> None:
    catalog = read_split(shared / "coco-mini", "val2017")
    sizes = DataSettings(short_sides=(120, 160, 200), crop_short_sides=(150, 200), crop_sides=(96, 150))
    reduced = SplitDataset(catalog, training_transform(sizes), seed=1)
    whole = SplitDataset(
        catalog, training_transform(sizes.model_copy(update={"reduced_decoding": False})), seed=1
    )
    differences, different = [], 0
    for index in range(30):
        a, b = reduced[0, index], whole[0, index]
        assert a.labels.tolist() == b.labels.tolist()
        torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=1.5)
        differences.append((a.image.float() - b.image.float()).abs().mean())
        different += not torch.equal(a.image, b.image)
    assert different > 10
    assert max(differences) < 8
    assert sum(differences) / different < 4


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
    random = np.random.default_rng(0)
    for _ in range(runs):
        result = transform(sample_of(image, []), random).image
        flipped += int(result[0, 0, 0] > result[0, 0, -1])
        cropped += int(result[0].max().int() - result[0].min().int() < 100)
        sides.append(min(result.shape[1:]))
    five_deviations = 5 * np.sqrt(0.25 / runs)
    assert abs(flipped / runs - flip) <= five_deviations * (0 < flip < 1)
    assert abs(cropped / runs - crop) <= five_deviations * (0 < crop < 1)
    assert set(sides) == {20, 24}
    assert abs(sides.count(20) / runs - 0.5) < five_deviations


def test_views_differ_from_call_to_call_unless_told_otherwise() -> None:
    transform, sample = training_transform(DataSettings()), sample_of(coordinates(80, 90), [])
    sizes = {transform(sample).image.shape for _ in range(20)}
    assert len(sizes) > 5
    again = [transform(sample, np.random.default_rng(3)).image for _ in range(2)]
    assert torch.equal(*again)


def test_unchanged_is_as_stored() -> None:
    sample = sample_of(coordinates(80, 90), [[10, 5, 40, 50]])
    shown = unchanged(sample)
    assert torch.equal(shown.image, sample.image)
    assert torch.equal(shown.boxes, sample.boxes)


def test_transforms_reach_workers_that_are_not_forked() -> None:
    transform, sample = training_transform(DataSettings()), sample_of(coordinates(80, 90), [[10, 5, 40, 50]])
    sent = pickle.loads(pickle.dumps(transform))  # noqa: S301
    found, expected = (one(sample, np.random.default_rng(3)) for one in (sent, transform))
    assert torch.equal(found.image, expected.image)
    assert torch.equal(found.boxes, expected.boxes)
