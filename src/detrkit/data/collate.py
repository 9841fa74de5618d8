"""The one door from image space to model space: samples of several sizes become a batch."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from detrkit.boxes import xyxy_to_cxcywh
from detrkit.structures import Batch, Images, Objects, Sample

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels (R, G, B) as fractions of white: pretrained backbones expect it taken off."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, likewise."""


def collate(samples: list[Sample]) -> Batch:
    """The images normalised and padded to one size, and their objects in model space."""
    return Batch(
        images=pad([normalise(sample.image) for sample in samples]),
        objects=[_objects(sample) for sample in samples],
        image_ids=[sample.image_id for sample in samples],
        original_sizes=[sample.original_size for sample in samples],
    )


def normalise(image: UInt8[Tensor, "3 H W"]) -> Float32[Tensor, "3 H W"]:
    """Pixels of mean 0 and standard deviation 1, as ImageNet's are on average."""
    pixels = functional.to_dtype(image.as_subclass(Tensor), torch.float32, scale=True)
    return functional.normalize(pixels, list(MEAN), list(STD))


def pad(images: list[Float32[Tensor, "3 _ _"]]) -> Images:
    """Normalised images at the top left of a batch as high and wide as its highest and widest.

    What is beyond an image is 0, which after normalising is the mean colour, not black.
    """
    height = max(image.shape[-2] for image in images)
    width = max(image.shape[-1] for image in images)
    pixels = torch.zeros(len(images), 3, height, width)
    valid = torch.zeros(len(images), height, width, dtype=torch.bool)
    for index, image in enumerate(images):
        inside = (slice(image.shape[-2]), slice(image.shape[-1]))
        pixels[index, :, *inside] = image
        valid[index, *inside] = True
    return Images(pixels, valid)


def _objects(sample: Sample) -> Objects:
    height, width = sample.image.shape[-2:]
    fractions = sample.boxes.as_subclass(Tensor) / torch.tensor([width, height, width, height])
    return Objects(xyxy_to_cxcywh(fractions), sample.labels)
