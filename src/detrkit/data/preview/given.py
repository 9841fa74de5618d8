"""What a network is given of an image, made visible again.

The pixels are the network's own input with its normalisation undone, and the boxes are those that its
answers are compared with. So what is shown went through every step of training's data, and a fault in any
of them is seen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from detrkit.boxes import cxcywh_to_xyxy
from detrkit.catalog import Catalog
from detrkit.data.collate import MEAN, STD, collate, to_network
from detrkit.data.dataset import SplitDataset
from detrkit.data.order import Key
from detrkit.data.transforms import training_transform, unchanged
from detrkit.data.views import View
from detrkit.settings.data import DataSettings


class Given(NamedTuple):
    """An image as a network is given it in training."""

    pixels: UInt8[Tensor, "3 H W"]
    """Without the padding of its batch."""
    boxes: Float[Tensor, "N 4"]
    """Its objects, ``xyxy`` in these pixels."""
    annotations: Int64[np.ndarray, " N"]
    """Which rows of the catalog these are."""
    view: View


class Preview(NamedTuple):
    """An image of a catalog as it is stored, and as training shows it in one epoch after the other."""

    image: int
    """Its position in the catalog."""
    stored: UInt8[Tensor, "3 _ _"]
    epochs: list[Given]


def previews(
    catalog: Catalog, settings: DataSettings, seed: int, indices: Iterable[int], num_epochs: int
) -> Iterator[Preview]:
    """The images at these ``indices``, each in its first ``num_epochs`` views of a training with this seed.

    Raises:
        DetrkitError: An image cannot be read.
    """
    # A label is handed through unchanged. In its place an object's row tells which one it is.
    traced = replace(catalog, labels=np.arange(len(catalog.labels)))
    dataset = SplitDataset(traced, training_transform(settings), seed)
    stored = SplitDataset(catalog, unchanged)
    for index in indices:
        keys = [(epoch, index) for epoch in range(num_epochs)]
        batches = (
            keys[first : first + settings.batch_size] for first in range(0, num_epochs, settings.batch_size)
        )
        epochs = [given for batch in batches for given in _given(dataset, batch)]
        yield Preview(index, stored[0, index].image.as_subclass(Tensor), epochs)


def _given(dataset: SplitDataset, keys: list[Key]) -> list[Given]:
    """What the network gets when these samples make a batch."""
    batch = collate([dataset[key] for key in keys])
    images = to_network(batch.images, torch.device("cpu"), torch.float32)
    given = []
    for place, (key, objects) in enumerate(zip(keys, batch.objects, strict=True)):
        valid = None if images.valid is None else images.valid[place]
        pixels = _to_bytes(_without_padding(images.pixels[place], valid))
        height, width = pixels.shape[-2:]
        boxes = cxcywh_to_xyxy(objects.boxes) * torch.tensor([width, height, width, height])
        given.append(Given(pixels, boxes, objects.labels.numpy(), dataset.view(key)))
    return given


def _without_padding(
    pixels: Float[Tensor, "3 H W"], valid: Bool[Tensor, "H W"] | None
) -> Float[Tensor, "3 _ _"]:
    return pixels if valid is None else pixels[:, : int(valid[:, 0].sum()), : int(valid[0].sum())]


def _to_bytes(normalised: Float[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((normalised * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
