"""What is seen of an image, in training and in evaluation, before its file is opened.

The augmentation is DETR's (Carion et al. 2020, appendix A.4), with the distributions of
``make_coco_transforms`` of the original code. There an image is mirrored, resized, cropped and resized
again. Here these are drawn from its size alone and put together into one ``View``: a part of the stored
image and the size that it gets. So pixels are resized once, and need not be decoded finer than that.
"""

from typing import NamedTuple

import numpy as np

from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize

Size = tuple[int, int]
"""(height, width) in pixels."""

_REDUCTIONS = (8, 4, 2)
"""What JPEG's transform of 8 x 8 pixels can be shortened by, so that fewer pixels are decoded."""


class View(NamedTuple):
    """A part of an image, mirrored left to right or not, and resized."""

    part: tuple[float, float, float, float]
    """The borders (left, top, right, bottom) of the part, in pixels of the stored image before mirroring."""
    mirrored: bool
    size: Size
    """(height, width) that the part is resized to."""

    @property
    def reduction(self) -> int:
        """By how much, of 8, 4, 2 and 1, an image may be reduced before its part is smaller than the view."""
        left, top, right, bottom = self.part
        height, width = self.size
        fits = (by for by in _REDUCTIONS if right - left >= by * width and bottom - top >= by * height)
        return next(fits, 1)

    def of_resized(self, down: float, across: float) -> "View":
        """The view that shows the same of the image after its height and width are multiplied by these."""
        left, top, right, bottom = self.part
        return self._replace(part=(left * across, top * down, right * across, bottom * down))


def training_view(settings: DataSettings, size: Size, random: np.random.Generator) -> View:
    """The view of an image of a size: mirrored, with some probability cut, and of a random size."""
    mirrored = random.random() < settings.flip
    part, part_size = _whole(size), size
    if random.random() < settings.crop_probability:
        part, part_size = _crop(settings, size, random)
    short_side = _one_of(settings.short_sides, random)
    return View(part, mirrored, resized_size(*part_size, short_side, settings.max_size))


def evaluation_view(image_size: ImageSize, size: Size, random: np.random.Generator) -> View:
    """All of an image, at the size that a detector expects. Nothing of it is random."""
    return View(_whole(size), False, resized_size(*size, *image_size))


def stored_view(size: Size, random: np.random.Generator) -> View:
    """All of an image as it is stored. Nothing of it is random."""
    return View(_whole(size), False, size)


def resized_size(height: int, width: int, short_side: int, max_size: int | None) -> Size:
    """(height, width) that DETR resizes an image to.

    The shorter side becomes ``short_side``, or less where the longer one would exceed ``max_size``. As in
    the original code, rounding may leave the longer side a little above ``max_size``.
    """
    short, long = min(height, width), max(height, width)
    if max_size is not None and long / short * short_side > max_size:
        short_side = max(1, round(max_size * short / long))
    if short == short_side:
        return height, width
    if width < height:
        return int(short_side * height / width), short_side
    return short_side, int(short_side * width / height)


def stored_size(size: Size, short_side: int | None) -> Size:
    """(height, width) of the file of an image of a size where ``Catalog.short_side`` is ``short_side``."""
    if short_side is None or min(size) <= short_side:
        return size
    return resized_size(*size, short_side, None)


def _crop(
    settings: DataSettings, size: Size, random: np.random.Generator
) -> tuple[tuple[float, float, float, float], Size]:
    """A part of an image, and the size that it has where the image's shorter side is resized at random.

    The sides of the part lie between two bounds at that size, as far as the image reaches.
    """
    height, width = size
    full_height, full_width = resized_size(height, width, _one_of(settings.crop_short_sides, random), None)
    smallest, largest = settings.crop_sides
    part_width = _between(min(smallest, full_width), min(largest, full_width), random)
    part_height = _between(min(smallest, full_height), min(largest, full_height), random)
    top, left = _between(0, full_height - part_height, random), _between(0, full_width - part_width, random)
    down, across = height / full_height, width / full_width
    part = (left * across, top * down, (left + part_width) * across, (top + part_height) * down)
    return part, (part_height, part_width)


def _whole(size: Size) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(size[1]), float(size[0])


def _between(low: int, high: int, random: np.random.Generator) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(random.integers(low, high, endpoint=True))


def _one_of(values: tuple[int, ...], random: np.random.Generator) -> int:
    return values[random.integers(len(values))]
