"""Images and their boxes as a view shows them: cut, mirrored and resized once, in bytes.

A pixel's three channels lie side by side in memory, as they are decoded and as torchvision's kernels for
bytes are fastest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detrkit.data.views import Size, View, evaluation_view, stored_view, training_view
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample


@dataclass(frozen=True)
class Transform:
    """Draws a view for the size of an image, and shows the image so: a Sample to a Sample."""

    draw: Callable[[Size, np.random.Generator], View]
    """The view of an image of a size."""
    reduced_decoding: bool = False
    """Whether a file may be decoded at 1/2, 1/4 or 1/8 of its size where a view is that small."""

    @overload
    def __call__(self, seen: Sample, random: np.random.Generator | None = None) -> Sample: ...

    @overload
    def __call__(
        self, seen: UInt8[Tensor, "3 H W"], random: np.random.Generator | None = None
    ) -> UInt8[Tensor, "3 h w"]: ...

    def __call__(
        self, seen: Sample | UInt8[Tensor, "3 H W"], random: np.random.Generator | None = None
    ) -> Sample | UInt8[Tensor, "3 h w"]:
        """A sample or an image in a view of its own, drawn anew for every call unless ``random`` is given."""
        image = (seen.image if isinstance(seen, Sample) else seen).as_subclass(Tensor)
        view = self.draw((image.shape[-2], image.shape[-1]), random or np.random.default_rng())
        return show(seen, view) if isinstance(seen, Sample) else _show_pixels(image, view, 1)


def training_transform(settings: DataSettings) -> Transform:
    """DETR's augmentation: mirror, cut some of the images, and resize to a random size."""
    return Transform(partial(training_view, settings), settings.reduced_decoding)


def evaluation_transform(size: ImageSize) -> Transform:
    """Resize to the size that a detector expects."""
    return Transform(partial(evaluation_view, size))


unchanged = Transform(stored_view)
"""Images as they are stored."""


def show(sample: Sample, view: View, reduction: int = 1) -> Sample:
    """The sample as a view shows it, with those of its objects that have an area there.

    ``sample.image`` may be the stored image reduced by ``reduction``; boxes are in pixels of the stored one.
    """
    image = sample.image.as_subclass(Tensor)
    boxes = _show_boxes(sample.boxes.as_subclass(Tensor), image, view, reduction)
    left, top, right, bottom = boxes.unbind(-1)
    visible = (right > left) & (bottom > top)
    return sample._replace(
        image=tv_tensors.Image(_show_pixels(image, view, reduction)),
        boxes=tv_tensors.BoundingBoxes(  # pyright: ignore[reportCallIssue] torch's stub hides its own
            boxes[visible], format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=view.size
        ),
        labels=sample.labels[visible],
    )


def _show_pixels(image: UInt8[Tensor, "3 H W"], view: View, reduction: int) -> UInt8[Tensor, "3 h w"]:
    left, top, right, bottom = _cut(image, view, reduction)
    part = image[:, top:bottom, left:right]
    if view.mirrored:
        part = part.flip(-1)
    part = part.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return functional.resize(part, list(view.size), antialias=True)


def _show_boxes(
    boxes: Float[Tensor, "N 4"], image: UInt8[Tensor, "3 H W"], view: View, reduction: int
) -> Float[Tensor, "N 4"]:
    """Where the boxes lie in the view, clipped to it."""
    left, top, right, bottom = _cut(image, view, reduction)
    height, width = view.size
    across, down = width / (right - left), height / (bottom - top)
    corners = boxes / reduction - torch.tensor([left, top, left, top])
    corners = corners * torch.tensor([across, down, across, down])
    if view.mirrored:
        x1, y1, x2, y2 = corners.unbind(-1)
        corners = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
    return corners.clamp(torch.zeros(4), torch.tensor([width, height, width, height]))


def _cut(image: UInt8[Tensor, "3 H W"], view: View, reduction: int) -> tuple[int, int, int, int]:
    """The borders (left, top, right, bottom) of the view's part in a reduced image, in whole pixels."""
    height, width = image.shape[-2:]
    left, top, right, bottom = (round(border / reduction) for border in view.part)
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, min(right, width)), max(top + 1, min(bottom, height))
