"""One split of a dataset as samples, and what of it is not trained on."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from detrkit.catalog import Catalog
from detrkit.data.formats.shards import require_shards
from detrkit.data.images import read_reduced_image
from detrkit.data.order import Key
from detrkit.data.shards.opened import OpenShards
from detrkit.data.transforms import Transform, show
from detrkit.data.views import View
from detrkit.errors import DetrkitError
from detrkit.structures import Sample

ROUNDING = 0.02
"""Pixels by which a box may reach outside its image without being reported: COCO rounds to hundredths."""


class SplitDataset(Dataset[Sample]):
    """The images and objects of a catalog; ``dataset[epoch, index]`` is one sample, in a view of its own.

    A sample is a function of (seed, epoch, index) alone, whichever process makes it and in whatever
    order. Crowds and boxes without area are left out, and boxes are clipped to their image.
    """

    def __init__(self, catalog: Catalog, transform: Transform, seed: int = 0) -> None:
        self.catalog = catalog
        self._transform = transform
        self._seed = seed
        self._boxes = _clipped_boxes(catalog)
        self._kept = ~catalog.crowds & _has_area(self._boxes)
        self._shards = OpenShards(catalog)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.catalog)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of an image in an epoch; DetrkitError if its file cannot be read."""
        _, index = key
        view = self.view(key)
        wanted = view.reduction if self._transform.reduced_decoding else 1
        place, content = self.catalog.place(index), self._shards.read(index)
        image, reduction = read_reduced_image(place, self.catalog.size(index), wanted, content)
        return show(self._stored(index, image), view, reduction)

    def view(self, key: Key) -> View:
        """How a sample shows its image, for which no file is read."""
        epoch, index = key
        random = np.random.default_rng([self._seed, epoch, index])
        return self._transform.draw(self.catalog.size(index), random)

    def aspects(self, epoch: int) -> Float64[np.ndarray, " images"]:
        """Width over height of all samples of an epoch."""
        sizes = np.array([self.view((epoch, index)).size for index in range(len(self))], dtype=np.float64)
        return sizes[:, 1] / sizes[:, 0]

    def _stored(self, index: int, image: UInt8[Tensor, "3 _ _"]) -> Sample:
        size = self.catalog.size(index)
        rows = self.catalog.rows(index)
        kept = self._kept[rows]
        return Sample(
            image=tv_tensors.Image(image),
            boxes=tv_tensors.BoundingBoxes(  # pyright: ignore[reportCallIssue] torch's stub hides its own
                torch.from_numpy(self._boxes[rows][kept]),
                format=tv_tensors.BoundingBoxFormat.XYXY,
                canvas_size=size,
            ),
            labels=torch.from_numpy(self.catalog.labels[rows][kept]),
            image_id=int(self.catalog.image_ids[index]),
            original_size=size,
        )


class LeftOut(NamedTuple):
    """What training does not see as the dataset states it."""

    crowds: int
    """Number of crowd regions, none of which is trained on."""
    without_area: Int64[np.ndarray, " left_out"]
    """Ids of other annotations that are not trained on: their boxes have no area inside the image."""
    clipped: Int64[np.ndarray, " clipped"]
    """Ids of annotations that are trained on with a smaller box, since theirs reaches outside the image."""
    unmatched: int
    """Number of objects beyond those of an image that one step can match."""


def left_out(catalog: Catalog, max_objects: int = sys.maxsize) -> LeftOut:
    """What of a catalog is not trained on, or not as it stands, where an image can match ``max_objects``."""
    boxes = _clipped_boxes(catalog)
    single, visible = ~catalog.crowds, _has_area(boxes)
    outside = np.abs(catalog.boxes - boxes).max(axis=1, initial=0) > ROUNDING
    return LeftOut(
        crowds=int(catalog.crowds.sum()),
        without_area=catalog.annotation_ids[single & ~visible],
        clipped=catalog.annotation_ids[single & visible & outside],
        unmatched=int((_counts(catalog, single & visible) - max_objects).clip(min=0).sum()),
    )


def describe_left_out(found: LeftOut) -> list[str]:
    """One sentence for each way in which training differs from the annotations; none if it does not."""
    sentences = []
    if found.crowds:
        sentences.append(f"Crowd regions that are not trained on: {found.crowds:,}.")
    if len(found.without_area):
        sentences.append(
            f"Annotations without area, which are not trained on: {_listed(found.without_area)}."
        )
    if len(found.clipped):
        sentences.append(f"Annotations whose boxes are clipped to the image: {_listed(found.clipped)}.")
    if found.unmatched:
        sentences.append(
            f"Objects beyond those of an image that a step can match: {found.unmatched:,}; raise "
            "model.decoder.queries to match all."
        )
    return sentences


def require_images(catalog: Catalog) -> None:
    """Raise a DetrkitError unless every image is a file in the catalog's folder, or in a complete shard."""
    if catalog.shards is not None:
        require_shards(catalog.folder, catalog.shards)
        return
    folders = {name.rpartition("/")[0] for name in catalog.file_names}
    present = {
        f"{folder}/{name}".lstrip("/") for folder in folders for name in _files(catalog.folder / folder)
    }
    missing = [name for name in catalog.file_names.tolist() if name not in present]
    if missing:
        raise DetrkitError(
            f"{len(missing)} of the {len(catalog)} images of {catalog.source} are missing from "
            f"{catalog.folder}, the first being {missing[0]}: fetch them or correct the annotations."
        )


def require_objects(catalog: Catalog) -> None:
    """Raise a DetrkitError unless there is an object to train on."""
    if not (~catalog.crowds & _has_area(_clipped_boxes(catalog))).any():
        raise DetrkitError(
            f"{catalog.source} has no object to train on in its {len(catalog)} images, crowds and boxes "
            "without area aside: annotate some, or name another split with data.train_split."
        )


def _files(folder: Path) -> Iterator[str]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if entry.is_file())


def _clipped_boxes(catalog: Catalog) -> Float32[np.ndarray, "annotations 4"]:
    """The boxes, cut to their images."""
    sizes = np.stack([catalog.widths, catalog.heights] * 2, axis=1)
    limits = np.repeat(sizes, np.diff(catalog.offsets), axis=0)
    return catalog.boxes.clip(0, limits).astype(np.float32)


def _counts(catalog: Catalog, chosen: Bool[np.ndarray, " annotations"]) -> Int64[np.ndarray, " images"]:
    """How many of the chosen annotations each image has."""
    images = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))
    return np.bincount(images[chosen], minlength=len(catalog))


def _has_area(boxes: Float32[np.ndarray, "annotations 4"]) -> Bool[np.ndarray, " annotations"]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _listed(ids: Int64[np.ndarray, " ids"]) -> str:
    first = ", ".join(str(one) for one in ids[:5])
    return first if len(ids) <= 5 else f"{first} and {len(ids) - 5:,} more"
