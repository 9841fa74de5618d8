import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from detrkit.data.views import Size, View, evaluation_view, resized_size, stored_view, training_view
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize

RANDOM = np.random.default_rng


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


def test_evaluation_sees_all_of_an_image() -> None:
    assert evaluation_view(ImageSize(800, 1333), (480, 640), RANDOM(0)) == (
        (0, 0, 640, 480),
        False,
        (800, 1066),
    )
    assert stored_view((480, 640), RANDOM(0)) == ((0, 0, 640, 480), False, (480, 640))


sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(sizes, st.integers(0, 2**32))
def test_a_view_is_inside_its_image_and_a_function_of_the_random_numbers(size: Size, seed: int) -> None:
    view = training_view(DataSettings(), size, RANDOM(seed))
    left, top, right, bottom = view.part
    assert 0 <= left < right <= size[1] * (1 + 1e-12)
    assert 0 <= top < bottom <= size[0] * (1 + 1e-12)
    assert view == training_view(DataSettings(), size, RANDOM(seed))


def in_the_original_code(size: Size, random: np.random.Generator) -> tuple[float, ...]:
    """DETR's steps one after another, as `make_coco_transforms` has them.

    Out come the shares of the image's width and height that are seen, where they begin in what is seen
    (mirrored or not), the final size, and whether the image is mirrored.
    """
    mirrored = random.random() < 0.5
    height, width, left, top, across, down = *size, 0.0, 0.0, 1.0, 1.0
    if random.random() < 0.5:
        short = [400, 500, 600][random.integers(3)]
        full_height, full_width = size_in_the_original_code(width, height, short, None)
        width = int(random.integers(min(384, full_width), min(full_width, 600) + 1))
        height = int(random.integers(min(384, full_height), min(full_height, 600) + 1))
        top = random.integers(0, full_height - height + 1) / full_height
        left = random.integers(0, full_width - width + 1) / full_width
        across, down = width / full_width, height / full_height
    short = list(range(480, 801, 32))[random.integers(11)]
    return (*size_in_the_original_code(width, height, short, 1333), left, top, across, down, float(mirrored))


def as_in_the_original(view: View, size: Size) -> tuple[float, ...]:
    left, top, right, bottom = (
        border / side for border, side in zip(view.part, (*size[::-1],) * 2, strict=True)
    )
    begins = 1 - right if view.mirrored else left
    return (*view.size, begins, top, right - left, bottom - top, float(view.mirrored))


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (300, 1200)])
def test_the_distribution_is_the_originals(size: Size) -> None:
    settings, random, other = DataSettings(), RANDOM(1), RANDOM(2)
    found = np.array([as_in_the_original(training_view(settings, size, random), size) for _ in range(4000)])
    expected = np.array([in_the_original_code(size, other) for _ in range(4000)])
    for column in range(found.shape[1]):
        values = (found[:, column].round(9), expected[:, column].round(9))
        assert stats.ks_2samp(*values).pvalue > 1e-4
    # what belongs together: how the size goes with the part, and the part with the mirroring
    for a, b in [(0, 4), (0, 5), (1, 4), (2, 4), (2, 6)]:
        products = (found[:, a] * found[:, b], expected[:, a] * expected[:, b])
        assert stats.ks_2samp(*(one.round(6) for one in products)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("part", "size", "reduction"),
    [
        ((0, 0, 640, 480), (480, 640), 1),
        ((0, 0, 1279, 960), (480, 640), 1),
        ((0, 0, 1280, 960), (480, 640), 2),
        ((100, 100, 2660, 2020), (480, 640), 4),
        ((0, 0, 6000, 4000), (500, 750), 8),
        ((0, 0, 60000, 40000), (500, 750), 8),
    ],
)
def test_no_image_is_reduced_below_its_view(
    part: tuple[float, float, float, float], size: Size, reduction: int
) -> None:
    assert View(part, False, size).reduction == reduction
