import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms.v2 import functional

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.formats.coco import read_coco
from detrkit.data.formats.recognise import read_split
from detrkit.data.loader import training_steps
from detrkit.data.preview.facts import count_facts, describe_facts, seen
from detrkit.data.preview.given import previews
from detrkit.data.preview.sheet import draw_sheet
from detrkit.data.preview.tile import TILE, Mark, draw_tile
from detrkit.data.transforms import training_transform
from detrkit.data.views import View
from detrkit.settings.data import DataSettings

AUGMENTED = DataSettings(
    short_sides=(60, 80, 100), max_size=150, crop_short_sides=(70, 90), crop_sides=(40, 80), batch_size=3
)
Rectangle = tuple[int, int, int, int]


def write(
    root: Path,
    pictures: Sequence[np.ndarray],
    boxes: Sequence[Sequence[Rectangle]],
    crowds: Sequence[int] = (),
    names: Sequence[str] = ("a", "b", "c"),
) -> Catalog:
    """A catalog of these pictures; boxes have the classes a, b and c in turn, and ids from 1 on."""
    images, annotations = [], []
    for number, (picture, own) in enumerate(zip(pictures, boxes, strict=True), start=1):
        Image.fromarray(picture).save(root / f"{number}.png")
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for place, (left, top, right, bottom) in enumerate(own):
            identity = len(annotations) + 1
            annotations.append(
                {
                    "id": identity,
                    "image_id": number,
                    "category_id": place % 3,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": int(identity in crowds),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (root / "some.json").write_text(json.dumps(tree))
    return read_coco(root / "some.json", root)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def ink(drawn: np.ndarray) -> list[int]:
    """The borders of what is True."""
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def test_without_augmentation_pixels_are_torchvisions_resized_ones(tmp_path: Path) -> None:
    picture = noise(90, 120, 3)
    catalog = write(tmp_path, [picture], [[(12, 9, 60, 45)]])
    settings = DataSettings(flip=0, crop_probability=0, short_sides=(60, 75, 81), batch_size=4)
    (found,) = previews(catalog, settings, 0, [0], 8)
    stored = torch.from_numpy(picture).permute(2, 0, 1)
    assert torch.equal(found.stored, stored)
    sides = set()
    for given in found.epochs:
        height, width = given.pixels.shape[-2:]
        assert torch.equal(given.pixels, functional.resize(stored, [height, width], antialias=True))
        expected = torch.tensor([[12 * width / 120, 9 * height / 90, 60 * width / 120, 45 * height / 90]])
        torch.testing.assert_close(given.boxes, expected)
        sides.add(height)
    assert sides == {60, 75, 81}


def test_boxes_lie_where_their_rectangles_are_seen(tmp_path: Path) -> None:
    picture = np.zeros((231, 310, 3), np.uint8)
    boxes = [(51, 28, 175, 150), (102, 125, 255, 228), (206, 7, 305, 104)]
    for channel, (left, top, right, bottom) in enumerate(boxes):
        picture[top:bottom, left:right, channel] = 255
    catalog = write(tmp_path, [picture[:9, :9], picture], [[(1, 1, 4, 4)], boxes])
    (found,) = previews(catalog, AUGMENTED, 3, [1], 60)
    checked = 0
    for given in found.epochs:
        for row, box in zip(given.annotations.tolist(), given.boxes.tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) >= 4:
                drawn = given.pixels[row - 1].numpy() > 127  # row 0 is the other image's
                assert np.abs(np.array(box) - ink(drawn)).max() <= 1.5
                checked += 1
    assert checked > 100
    assert len({tuple(given.pixels.shape) for given in found.epochs}) > 10
    assert {given.view.mirrored for given in found.epochs} == {True, False}


def test_views_are_those_of_a_training_with_the_seed(shapes: Path) -> None:
    catalog, seed = read_split(shapes, "train"), 7
    dataset = SplitDataset(catalog, training_transform(AUGMENTED), seed)
    steps = training_steps(
        dataset, seed=seed, batch_size=1, accumulate=1, rank=0, world=1, steps=range(2 * 40), workers=0
    )
    trained = [batch for (batch,) in steps]
    for found in previews(catalog, AUGMENTED, seed, range(40), 2):
        for epoch, given in enumerate(found.epochs):
            (batch,) = (
                one
                for one in trained[40 * epoch : 40 * epoch + 40]
                if one.image_ids == [catalog.image_ids[found.image]]
            )
            assert torch.equal(given.pixels, batch.images.pixels[0])
            assert catalog.labels[given.annotations].tolist() == batch.objects[0].labels.tolist()
            size = torch.tensor(given.pixels.shape[-2:]).flip(0)
            centres = (given.boxes[:, :2] + given.boxes[:, 2:]) / 2 / size
            torch.testing.assert_close(centres, batch.objects[0].boxes[:, :2])


def test_what_a_view_shows_of_objects(tmp_path: Path) -> None:
    """Of an image of 100 x 80, the right half is seen, at twice its size."""
    boxes = [(60, 10, 80, 30), (40, 10, 60, 30), (0, 0, 50, 80), (90, 70, 120, 90), (60, 5, 70, 20)]
    catalog = write(tmp_path, [noise(80, 100, 3)], [boxes], crowds=[5])
    found = seen(catalog, 0, View((50, 0, 100, 80), True, (160, 100)))
    assert found.annotations.tolist() == [0, 1, 2, 3]
    assert found.shown.tolist() == [True, True, False, True]
    assert found.cut.tolist() == [False, True, False, False]
    assert found.sides[found.shown].tolist() == [[40, 40], [20, 40], [20, 20]]


def test_facts_are_those_of_the_samples(shapes: Path) -> None:
    """Crops are of whole pixels here, since all sides are that of the stored images."""
    settings = DataSettings(
        crop_probability=0.7, short_sides=(128, 160), crop_short_sides=(128,), crop_sides=(50, 90)
    )
    catalog = read_split(shapes, "train")
    facts = count_facts(catalog, settings, 5, list(range(40)), 3)
    dataset = SplitDataset(catalog, training_transform(settings), 5)
    samples = [dataset[epoch, index] for epoch in range(3) for index in range(40)]
    sides = torch.cat([sample.boxes.as_subclass(torch.Tensor) for sample in samples])
    roots = ((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])).sqrt()
    assert facts.objects == 3 * len(catalog.labels)
    assert facts.outside == facts.objects - len(roots) > 0
    np.testing.assert_allclose(np.sort(facts.roots), np.sort(roots.numpy()), rtol=1e-4)
    assert sorted(facts.shorter_sides) == sorted(min(sample.image.shape[1:]) for sample in samples)
    assert sorted(facts.longer_sides) == sorted(max(sample.image.shape[1:]) for sample in samples)
    assert 0.5 < (facts.parts < 1).mean() < 0.9
    assert facts.smallest is not None
    whole = [
        (right - left) * (bottom - top)
        for sample in samples
        for left, top, right, bottom in sample.boxes.tolist()
        if min(left, top, sample.image.shape[2] - right, sample.image.shape[1] - bottom) > 0
    ]
    assert facts.smallest.width * facts.smallest.height == pytest.approx(min(whole), rel=1e-4)
    assert facts.roots.min() ** 2 < 0.5 * min(whole)  # of one that is cut
    smallest = dataset[facts.smallest.epoch, facts.smallest.image].boxes
    sides = (smallest[:, 2:] - smallest[:, :2]).tolist()
    assert pytest.approx([facts.smallest.width, facts.smallest.height], rel=1e-4) in sides


def test_facts_in_sentences(tmp_path: Path) -> None:
    settings = DataSettings(flip=0, crop_probability=0, short_sides=(160,), max_size=400)
    catalog = write(tmp_path, [noise(80, 100, 3)], [[(0, 0, 5, 8), (0, 0, 50, 80)]])
    facts = count_facts(catalog, settings, 0, [0], 2)
    assert describe_facts(facts, catalog, settings, 32) == [
        "Images: in training, shorter sides of 160 and longer ones of 200 pixels; in evaluation, a shorter "
        "side of 160 and a longer one of at most 400.",
        "Crops: none; every view shows all of its image.",
        "Small objects: 50% have less area than the 32 x 32 pixels of a feature cell; the smallest is "
        "10 x 16 pixels: annotation 1 (a) of 1.png in epoch 0.",
    ]


@pytest.mark.parametrize("size", [(300, 400), (1200, 900), (50, 40)], ids=["near", "large", "small"])
@pytest.mark.parametrize("trained", [True, False])
def test_the_border_of_a_box_is_drawn_where_it_lies(size: tuple[int, int], trained: bool) -> None:
    height, width = size
    box = (0.25 * width, 0.4 * height, 0.75 * width, 0.8 * height)
    pixels = torch.full((3, height, width), 90, dtype=torch.uint8)
    drawn = np.asarray(draw_tile(pixels, [Mark(box, (255, 0, 0), "", "", trained)]))
    expected = np.array(box) * (np.tile(drawn.shape[1::-1], 2) / np.array([width, height] * 2))
    red = np.all(drawn == (255, 0, 0), axis=2)
    down, across = np.flatnonzero(red[:, drawn.shape[1] // 2]), np.flatnonzero(red[round(0.6 * len(drawn))])
    found = [across[0], down[0], across[-1] + 1, down[-1] + 1]
    assert np.abs(found - expected).max() <= 1.5
    middle = drawn[round(expected[1]) + 20 : round(expected[3]) - 5, round(expected[0]) + 12 : 150]
    assert (middle == 90).all()


def test_an_image_fills_its_tile() -> None:
    for size in [(300, 400), (1200, 900), (50, 40), (3000, 20), (1, 4000), (1, 1)]:
        tile = draw_tile(torch.zeros(3, *size, dtype=torch.uint8), [])
        assert tile.width == TILE[0] or tile.height == TILE[1]
        assert tile.width <= TILE[0]
        assert tile.height <= TILE[1]


def test_captions_are_long_where_they_fit_and_none_hides_another() -> None:
    grey = torch.full((3, 300, 340), 90, dtype=torch.uint8)
    wide, narrow = (20.0, 100.0, 220.0, 200.0), (20.0, 100.0, 40.0, 200.0)

    def paper(*boxes: tuple[float, ...]) -> list[int]:
        """How many pixels of the colours of these boxes lie above them."""
        colours = [(255, 0, 0), (0, 0, 255)]
        marks = [Mark(box, colour, "1", "1 giraffe") for box, colour in zip(boxes, colours, strict=False)]
        above = np.asarray(draw_tile(grey, marks))[:98]
        return [int(np.all(above == colour, axis=2).sum()) for colour in colours]

    assert paper(wide)[0] > 2 * paper(narrow)[0] > 0
    assert paper(narrow, wide)[0] == 0  # the larger box's caption stands there
    assert paper(narrow, wide)[1] == paper(wide)[0]


def test_captions_of_many_objects_leave_the_picture_to_be_seen() -> None:
    boxes = [(x, y, x + 12.0, y + 12.0) for x in range(0, 330, 20) for y in range(0, 290, 20)]
    marks = [Mark(box, (255, 0, 0), "888", "888 cat", False) for box in boxes]
    drawn = np.asarray(draw_tile(torch.full((3, 300, 340), 90, dtype=torch.uint8), marks))
    assert (drawn == 90).all(axis=2).mean() > 0.5


def sheet_of(catalog: Catalog, settings: DataSettings, num_epochs: int) -> np.ndarray:
    found = previews(catalog, settings, 0, range(len(catalog)), num_epochs)
    return np.asarray(draw_sheet("title", catalog, settings, found, 32))


@pytest.mark.parametrize(("num_images", "num_epochs"), [(1, 1), (3, 2), (2, 5)])
def test_every_image_has_a_row_and_every_epoch_a_tile(
    tmp_path: Path, num_images: int, num_epochs: int
) -> None:
    pictures = [np.full((50 + 20 * number, 80, 3), (250, 0, 250), np.uint8) for number in range(num_images)]
    catalog = write(tmp_path, pictures, [[]] * num_images)
    sheet = sheet_of(catalog, AUGMENTED, num_epochs)
    _, tiles = ndimage.label(np.abs(sheet.astype(int) - (250, 0, 250)).max(axis=2) <= 1)
    assert tiles == num_images * (1 + num_epochs)


def test_nothing_is_too_strange_to_be_drawn(tmp_path: Path) -> None:
    pictures = [noise(1, 1, 3), noise(2, 900, 3), noise(900, 2, 3), noise(40, 40), noise(60, 60, 4)]
    many = [(x, y, x + 3, y + 3) for x in range(0, 40, 2) for y in range(0, 40, 2)]
    boxes = [
        [(0, 0, 1, 1)],
        [(-5, -5, 2000, 2000)],
        [(1, 100, 2, 101)],
        many,
        [(5, 5, 5, 20), (90, 90, 95, 99)],
    ]
    catalog = write(tmp_path, pictures, boxes, crowds=[2], names=["猫 " * 300, "naïve\nline", ""])
    assert sheet_of(catalog, AUGMENTED, 2).shape[0] > 5 * 150
    facts = count_facts(catalog, AUGMENTED, 0, [0, 1, 2, 3, 4], 2)
    assert facts.objects == 2 * (1 + 1 + len(many))  # neither the crowd nor what has no area
    assert len(describe_facts(facts, catalog, AUGMENTED, 32)) == 3


def test_nothing_shown_is_said(tmp_path: Path) -> None:
    catalog = write(tmp_path, [noise(40, 40, 3)], [[]])
    facts = count_facts(catalog, AUGMENTED, 0, [0], 2)
    assert describe_facts(facts, catalog, AUGMENTED, 32)[-1] == "Objects: no view shows a whole one."
