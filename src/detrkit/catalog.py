"""Any dataset without its pixels, in columns.

COCO's 860,000 training annotations cost tens of megabytes as NumPy columns and several gigabytes as
Python objects, which every loader worker would copy. All formats are read into this one type.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from detrkit.errors import DetrkitError


class Category(NamedTuple):
    """A class of objects. ``id`` is the dataset's own number for it; inside, its position is its label.

    ``used`` is False for a label that a checkpoint has and no object ever had, such as the ids that
    COCO skips: what is found under it is nothing.
    """

    id: int
    name: str
    used: bool = True


@dataclass(frozen=True, eq=False)
class Shards:
    """Where in tar files the images of a catalog lie, in columns of one entry for each image.

    Image ``i`` is the ``lengths[i]`` bytes from ``offsets[i]`` on of ``files[shard[i]]``, a name in the
    catalog's folder, and ``checksums[i]`` is their CRC-32.
    """

    source: str
    """The dataset that the shards were made from."""
    files: tuple[str, ...]
    sizes: tuple[int, ...]
    """Bytes of each file."""
    shard: Int64[np.ndarray, " images"]
    offsets: Int64[np.ndarray, " images"]
    lengths: Int64[np.ndarray, " images"]
    checksums: Int64[np.ndarray, " images"]


@dataclass(frozen=True, eq=False)
class Catalog:
    """The images, annotations and categories of one split.

    Annotations are sorted by image: those of image ``i`` are rows ``offsets[i]`` to ``offsets[i + 1]``.
    Boxes are ``xyxy`` in pixels of the original image, exactly as the dataset says: not clipped, and
    possibly without area. Labels are positions in ``categories``. Crowds are regions that evaluation
    ignores and training leaves out. Images are files in ``folder``, unless they are in ``shards`` there.
    """

    source: Path
    folder: Path
    categories: tuple[Category, ...]
    image_ids: Int64[np.ndarray, " images"]
    file_names: Shaped[np.ndarray, " images"]
    widths: Int64[np.ndarray, " images"]
    heights: Int64[np.ndarray, " images"]
    offsets: Int64[np.ndarray, " images+1"]
    annotation_ids: Int64[np.ndarray, " annotations"]
    boxes: Float64[np.ndarray, "annotations 4"]
    labels: Int64[np.ndarray, " annotations"]
    areas: Float64[np.ndarray, " annotations"]
    crowds: Bool[np.ndarray, " annotations"]
    short_side: int | None = None
    """Files of images with a larger shorter side have it reduced to this. All else is in original pixels."""
    shards: Shards | None = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    @property
    def num_resized(self) -> int:
        """The number of images whose files are smaller than ``size`` says."""
        if self.short_side is None:
            return 0
        return int((np.minimum(self.heights, self.widths) > self.short_side).sum())

    def digest(self) -> str:
        """SHA-256 of all that training and evaluation know of the split but its pixels."""
        names = [category.name for category in self.categories]
        total = hashlib.sha256(json.dumps([names, self.file_names.tolist(), self.short_side]).encode())
        for column in ("image_ids", "widths", "heights", "offsets", "boxes", "labels", "areas", "crowds"):
            total.update(np.ascontiguousarray(getattr(self, column)).tobytes())
        return total.hexdigest()

    def rows(self, index: int) -> slice:
        """The rows of the annotations of image number ``index``."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def path(self, index: int) -> Path:
        """The file of image number ``index``; DetrkitError if it has none, being in a shard."""
        require_files(self)
        return self.place(index)

    def place(self, index: int) -> Path:
        """How messages name image number ``index``: its file, or its shard and its name in the dataset."""
        shards = self.shards
        folder = self.folder if shards is None else self.folder / shards.files[int(shards.shard[index])]
        return folder / str(self.file_names[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of image number ``index`` as the dataset states it."""
        return int(self.heights[index]), int(self.widths[index])

    def paths_of(self, image_ids: list[int]) -> list[Path]:
        """Where these images lie, for messages that name them."""
        position = {int(image_id): index for index, image_id in enumerate(self.image_ids)}
        return [self.place(position[image_id]) for image_id in image_ids]


def require_files(catalog: Catalog) -> None:
    """Refuse images in shards, where each is wanted as a file of its own."""
    if catalog.shards is not None:
        raise DetrkitError(
            f"the images of {catalog.source} are in shards, {catalog.folder / catalog.shards.files[0]} and "
            "on, but files are expected here: name the dataset that the shards were made from, "
            f"{catalog.shards.source}."
        )


class LabelMap(NamedTuple):
    """What a detector's labels are in a dataset: ``labels[own]``, or -1 where the dataset has no such class.

    ``lacking`` are the dataset's names that the detector does not know, ``dropped`` the detector's that
    the dataset has no class for.
    """

    labels: Int64[np.ndarray, " own"]
    lacking: list[str]
    dropped: list[str]


def map_labels(own: tuple[Category, ...], dataset: tuple[Category, ...], where: str) -> LabelMap:
    """From a detector's labels to a dataset's, by the names of the categories.

    Raises:
        DetrkitError: where no name agrees; ``where`` names the dataset.
    """
    label_of = {category.name: label for label, category in enumerate(dataset)}
    labels = [label_of.get(category.name, -1) if category.used else -1 for category in own]
    known = {category.name for category in own if category.used}
    if not known & label_of.keys():
        raise DetrkitError(
            f"{where}: none of its categories ({_some(label_of)}) is one that the detector knows "
            f"({_some(known)}): evaluate on data of the same classes, or fine-tune with train --init."
        )
    return LabelMap(
        labels=np.array(labels, dtype=np.int64),
        lacking=[name for name in label_of if name not in known],
        dropped=sorted(known - label_of.keys()),
    )


def require_same_categories(found: tuple[Category, ...], expected: tuple[Category, ...], where: str) -> None:
    """Refuse two category lists that give labels different meanings."""
    if found == expected:
        return
    for label, (left, right) in enumerate(zip(found, expected, strict=False)):
        if left != right:
            difference = f"label {label} is {left.id} '{left.name}', not {right.id} '{right.name}'"
            break
    else:
        difference = f"it has {len(found)} categories, not {len(expected)}"
    raise DetrkitError(
        f"{where}: its categories differ from those trained on: {difference}; "
        "give both the same ids and names."
    )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", .." if len(listed) > 3 else "")
