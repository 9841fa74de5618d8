from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset, require_images, require_objects
from detrkit.data.formats.coco import read_coco
from detrkit.data.formats.recognise import read_split
from detrkit.data.transforms import evaluation_transform, training_transform, unchanged
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample

SMALL = DataSettings(short_sides=(64, 96, 128), crop_short_sides=(96, 128), crop_sides=(48, 96))


@pytest.fixture
def catalog(content: Any, write: Callable) -> Catalog:
    return read_coco(*write(content))


def equal(a: Sample, b: Sample) -> bool:
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


def test_training_objects(catalog: Catalog) -> None:
    dataset = SplitDataset(catalog, unchanged)
    assert len(dataset) == 3
    first, second, third = (dataset[0, index] for index in range(3))
    assert first.boxes.tolist() == [[30.5, 0, 40, 10]]
    assert first.labels.tolist() == [1]
    assert (first.image_id, first.original_size, first.image.shape) == (70, (30, 40), (3, 30, 40))
    assert second.boxes.tolist() == [[1, 2, 4, 6]]
    assert third.boxes.shape == (0, 4)
    assert (first.boxes.dtype, first.labels.dtype) == (torch.float32, torch.int64)


def test_a_split_needs_an_object_to_train_on(content: Any, write: Callable, catalog: Catalog) -> None:
    require_objects(catalog)
    content["annotations"] = [
        {"image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 5], "iscrowd": 1},
        {"image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 0]},
    ]
    with pytest.raises(DetrkitError, match="no object to train on in its 3 images"):
        require_objects(read_coco(*write(content)))


def test_a_box_too_thin_for_single_precision_is_left_out(content: Any, write: Callable) -> None:
    content["annotations"] = [{"image_id": 3, "category_id": 2, "bbox": [10, 10, 1e-9, 5]}]
    catalog = read_coco(*write(content))
    assert SplitDataset(catalog, unchanged)[0, 1].boxes.shape == (0, 4)


def test_a_sample_depends_on_seed_epoch_and_index_alone(shapes: Path) -> None:
    catalog, transform = read_split(shapes, "train"), training_transform(SMALL)
    dataset = SplitDataset(catalog, transform, seed=4)
    keys = [(epoch, index) for epoch in range(3) for index in range(4)]
    expected = {key: dataset[key] for key in keys}
    torch.manual_seed(99)
    again = SplitDataset(catalog, transform, seed=4)
    assert all(equal(again[key], expected[key]) for key in reversed(keys))
    other = SplitDataset(catalog, transform, seed=5)
    assert not all(equal(other[key], expected[key]) for key in keys)
    assert not all(equal(expected[0, index], expected[1, index]) for index in range(4))


def test_views_and_aspects_are_those_of_the_samples(shapes: Path) -> None:
    dataset = SplitDataset(read_split(shapes, "train"), training_transform(SMALL), seed=4)
    for epoch in range(2):
        sizes = [tuple(dataset[epoch, index].image.shape[1:]) for index in range(len(dataset))]
        assert [dataset.view((epoch, index)).size for index in range(len(dataset))] == sizes
        assert dataset.aspects(epoch).tolist() == [width / height for height, width in sizes]


def test_the_global_generator_is_left_alone(shapes: Path) -> None:
    dataset = SplitDataset(read_split(shapes, "train"), training_transform(SMALL), seed=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    dataset[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_real_images_without_annotations_or_colour_are_samples(shared: Path) -> None:
    catalog = read_split(shared / "coco-mini", "val2017")
    dataset = SplitDataset(catalog, evaluation_transform(ImageSize(64, 128)))
    for index in range(len(catalog)):
        sample = dataset[0, index]
        rows = catalog.rows(index)
        assert len(sample.boxes) == len(sample.labels) == int((~catalog.crowds[rows]).sum())
        assert sample.original_size == catalog.size(index)


def test_all_images_must_be_there(catalog: Catalog) -> None:
    require_images(catalog)
    (catalog.folder / "inner" / "a.png").unlink()
    with pytest.raises(
        DetrkitError, match=r"1 of the 3 images .* missing from .*some, the first being inner/a\.png"
    ):
        require_images(catalog)
    (catalog.folder / "inner").rmdir()
    (catalog.folder / "b.png").unlink()
    (catalog.folder / "b.png").mkdir()
    with pytest.raises(DetrkitError, match=r"2 of the 3 images .*first being b\.png"):
        require_images(catalog)


def test_a_file_of_another_size_is_refused(content: Any, write: Callable) -> None:
    content["images"][0]["width"] = 41
    dataset = SplitDataset(read_coco(*write(content)), unchanged)
    with pytest.raises(DetrkitError, match=r"b\.png is 40 x 30 pixels, but its dataset states 41 x 30"):
        dataset[0, 0]
