"""The one door from image space to model space: samples of several sizes become a batch."""

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from detrkit.boxes import xyxy_to_cxcywh
from detrkit.structures import Batch, Images, Objects, Sample

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels (R, G, B) as fractions of white: pretrained backbones expect it taken off."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, likewise."""

_ROWS = 64
"""Rows of pixels normalised at once on a CPU: 0.8 MB of numbers for images 1066 pixels wide."""


def collate(samples: list[Sample]) -> Batch:
    """The images padded to one size, and their objects in model space."""
    return Batch(
        images=pad([sample.image.as_subclass(Tensor) for sample in samples]),
        objects=[_objects(sample) for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        original_sizes=[sample.original_size for sample in samples],
    )


def pad(images: list[UInt8[Tensor, "3 _ _"]]) -> Images:
    """Images at the top left of a batch as high and wide as its highest and widest, zero beyond them.

    A pixel's three channels lie side by side, as they are decoded and as convolutions on a CPU take them.
    """
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    pixels = torch.empty(len(images), height, width, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[-2], : image.shape[-1]] = image
        _clear(place, image.shape[-2], image.shape[-1])
    if all(image.shape[-2:] == (height, width) for image in images):
        return Images(pixels)
    valid = torch.zeros(len(images), height, width, dtype=torch.bool)
    for place, image in zip(valid, images, strict=True):
        place[: image.shape[-2], : image.shape[-1]] = True
    return Images(pixels, valid)


def to_network(images: Images, device: torch.device, dtype: torch.dtype) -> Images:
    """The images as a network takes them, on its device and in its precision: bytes are normalised there.

    What is beyond an image stays 0, which after normalising is the mean colour, not black.
    """
    pixels = images.pixels.to(device, non_blocking=True)
    valid = None if images.valid is None else images.valid.to(device, non_blocking=True)
    if pixels.is_floating_point():
        return Images(pixels.to(dtype), valid)
    pixels = normalise(pixels, dtype)
    return Images(pixels if valid is None else _without_padding(pixels, valid), valid)


def normalise(
    pixels: UInt8[Tensor, "*B 3 H W"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*B 3 H W"]:
    """Pixels of mean 0 and standard deviation 1, as ImageNet's are on average; channels last in memory.

    It is computed at least in float32, and on a CPU for as many rows at a time as its cache holds.
    """
    rows = pixels.movedim(-3, -1).flatten(-2).flatten(0, -2)
    precision = torch.promote_types(dtype, torch.float32)
    mean, std = (torch.tensor(values, dtype=precision, device=pixels.device) for values in (MEAN, STD))
    scale, shift = ((of / std).repeat(pixels.shape[-1]) for of in (torch.ones_like(std) / 255, -mean))
    normalised = torch.empty(rows.shape, dtype=dtype, device=pixels.device)
    at_once = _ROWS if pixels.device.type == "cpu" else max(1, len(rows))
    for numbers, bytes_ in zip(normalised.split(at_once), rows.split(at_once), strict=True):
        exact = numbers.copy_(bytes_) if dtype == precision else bytes_.to(precision)
        torch.addcmul(shift, exact, scale, out=numbers)
    shape = (*pixels.shape[:-3], *pixels.shape[-2:], 3)
    return normalised.view(shape).movedim(-1, -3)


def _without_padding(
    pixels: Float[Tensor, "B 3 H W"], valid: Bool[Tensor, "B H W"]
) -> Float[Tensor, "B 3 H W"]:
    """The pixels with zeros beyond the images."""
    if pixels.device.type != "cpu":
        return pixels.masked_fill_(~valid[:, None], 0)
    # 50 times faster there, and elsewhere it would wait for the sizes
    heights, widths = valid[:, :, 0].sum(1).tolist(), valid[:, 0].sum(1).tolist()
    for image, height, width in zip(pixels, heights, widths, strict=True):
        _clear(image, height, width)
    return pixels


def _clear(place: Shaped[Tensor, "3 H W"], height: int, width: int) -> None:
    """Put zeros below and to the right of an image in its place."""
    place[:, height:] = 0
    place[:, :height, width:] = 0


def _objects(sample: Sample) -> Objects:
    height, width = sample.image.shape[-2:]
    fractions = sample.boxes.as_subclass(Tensor) / torch.tensor([width, height, width, height])
    return Objects(xyxy_to_cxcywh(fractions), sample.labels)
