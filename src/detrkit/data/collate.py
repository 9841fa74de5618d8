"""The one door from image space to model space: samples of several sizes become a batch."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from detrkit.boxes import xyxy_to_cxcywh
from detrkit.structures import Batch, Images, Objects, Sample

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels (R, G, B) as fractions of white: pretrained backbones expect it taken off."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, likewise."""


def collate(samples: list[Sample]) -> Batch:
    """The images padded to one size, and their objects in model space."""
    return Batch(
        images=pad([sample.image.as_subclass(Tensor) for sample in samples]),
        objects=[_objects(sample) for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        original_sizes=[sample.original_size for sample in samples],
    )


def pad(images: list[UInt8[Tensor, "3 _ _"]]) -> Images:
    """Images at the top left of a batch as high and wide as its highest and widest, zero beyond them."""
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    if all(image.shape[-2:] == (height, width) for image in images):
        return Images(torch.stack(images))
    pixels = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    valid = torch.zeros(len(images), height, width, dtype=torch.bool)
    for index, image in enumerate(images):
        inside = (slice(image.shape[-2]), slice(image.shape[-1]))
        pixels[index, :, *inside] = image
        valid[index, *inside] = True
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
    return Images(pixels if valid is None else pixels.masked_fill_(~valid[:, None], 0), valid)


def normalise(
    pixels: UInt8[Tensor, "*B 3 H W"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*B 3 H W"]:
    """Pixels of mean 0 and standard deviation 1, as ImageNet's are on average."""
    return functional.normalize(functional.to_dtype(pixels, dtype, scale=True), list(MEAN), list(STD))


def _objects(sample: Sample) -> Objects:
    height, width = sample.image.shape[-2:]
    fractions = sample.boxes.as_subclass(Tensor) / torch.tensor([width, height, width, height])
    return Objects(xyxy_to_cxcywh(fractions), sample.labels)
