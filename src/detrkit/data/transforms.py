"""How images are resized, and augmented in training: DETR's recipe (Carion et al. 2020, appendix A.4).

The order and the distributions are those of ``make_coco_transforms`` of the original code. All
randomness comes from torch's global generator, so that seeding it decides everything.
"""

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample


def training_transform(settings: DataSettings) -> v2.Compose:
    """Flip, crop some of the images, and resize to a random size: a Sample to a Sample."""
    cropping = [
        _random_resize(settings.crop_short_sides, None),
        RandomCrop(*settings.crop_sides),
        without_empty_boxes,
    ]
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(settings.flip),
            v2.RandomApply(cropping, settings.crop_probability),
            _random_resize(settings.short_sides, settings.max_size),
        ]
    )


def evaluation_transform(size: ImageSize) -> v2.Transform:
    """Resize to the size that a detector expects: a Sample to a Sample, or an image to an image."""
    return Resize(size.short_side, size.max_size)


def resized_size(height: int, width: int, short_side: int, max_size: int | None) -> tuple[int, int]:
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


class Resize(v2.Transform):
    """Resizes an image to ``resized_size``, and its boxes with it."""

    def __init__(self, short_side: int, max_size: int | None = None) -> None:
        super().__init__()
        self.short_side = short_side
        self.max_size = max_size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size to resize to."""
        height, width = functional.get_size(flat_inputs[0])
        return {"size": list(resized_size(height, width, self.short_side, self.max_size))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The image, or its boxes, at that size."""
        return functional.resize(inpt, **params, antialias=True)


class RandomCrop(v2.Transform):
    """Crops to a random size and place; sides lie between two bounds, as far as the image reaches.

    Boxes are clipped to the crop, and those outside it lose their area.
    """

    def __init__(self, smallest: int, largest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.largest = largest

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The rectangle to cut out."""
        full_height, full_width = functional.get_size(flat_inputs[0])
        width = _draw(min(self.smallest, full_width), min(self.largest, full_width))
        height = _draw(min(self.smallest, full_height), min(self.largest, full_height))
        top, left = _draw(0, full_height - height), _draw(0, full_width - width)
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """The part of the image, or of its boxes, inside that rectangle."""
        return functional.crop(inpt, **params)


def without_empty_boxes(sample: Sample) -> Sample:
    """The sample with only those objects whose boxes have an area."""
    left, top, right, bottom = sample.boxes.unbind(-1)
    visible = (right > left) & (bottom > top)
    boxes = tv_tensors.wrap(sample.boxes[visible], like=sample.boxes)  # pyright: ignore[reportCallIssue]
    return sample._replace(boxes=boxes, labels=sample.labels[visible])


def _random_resize(short_sides: tuple[int, ...], max_size: int | None) -> v2.Transform:
    return v2.RandomChoice([Resize(short_side, max_size) for short_side in short_sides])


def _draw(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, ()))
