"""An image and its annotations as WebDataset's tar files have them: ``KEY.jpg``, then ``KEY.json``.

The key is the number of the image in its split, without dots or slashes. Headers are POSIX ustar's, which
all readers know, without owner or time, so that equal samples are equal bytes.
"""

from pathlib import PurePosixPath
from tarfile import BLOCKSIZE, RECORDSIZE, USTAR_FORMAT, TarInfo
from typing import NamedTuple

import msgspec
import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.suffixes import SUFFIXES

BLOCK = BLOCKSIZE
"""Bytes of a header, of which the length of a member is made a multiple."""


class SampleMembers(NamedTuple):
    """The headers of an image and of its annotations, and the bytes of the latter."""

    image: bytes
    annotations: bytes
    described: bytes


def members_of(catalog: Catalog, index: int, length: int) -> SampleMembers:
    """What stands in a shard besides the ``length`` bytes of an image."""
    described = describe(catalog, index)
    suffix = PurePosixPath(str(catalog.file_names[index])).suffix.lower()
    image = f"{index:09d}{suffix if suffix in SUFFIXES else '.img'}"
    return SampleMembers(_header(image, length), _header(f"{index:09d}.json", len(described)), described)


def describe(catalog: Catalog, index: int) -> bytes:
    """An image and its annotations in json, with COCO's fields."""
    rows = catalog.rows(index)
    image_id = int(catalog.image_ids[index])
    height, width = catalog.size(index)
    corners = catalog.boxes[rows]
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    columns = zip(
        catalog.annotation_ids[rows].tolist(),
        catalog.labels[rows].tolist(),
        boxes.tolist(),
        catalog.areas[rows].tolist(),
        catalog.crowds[rows].tolist(),
        strict=True,
    )
    annotations = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": catalog.categories[label].id,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, label, box, area, crowd in columns
    ]
    name = str(catalog.file_names[index])
    image = {"image_id": image_id, "file_name": name, "width": width, "height": height}
    return msgspec.json.encode(image | {"annotations": annotations})


def padded(length: int) -> int:
    """The bytes that a member of some length takes up behind its header."""
    return -(-length // BLOCK) * BLOCK


def length_of(end: int) -> int:
    """The length of a tar file whose members end at ``end``: two empty blocks follow, and tape's padding."""
    return -(-(end + 2 * BLOCK) // RECORDSIZE) * RECORDSIZE


def _header(name: str, length: int) -> bytes:
    info = TarInfo(name)
    info.size = length
    return info.tobuf(USTAR_FORMAT)
