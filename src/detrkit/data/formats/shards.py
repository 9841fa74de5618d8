"""Images of COCO's layout in tar files: ``SPLIT/SPLIT-000000.tar ..`` and their index ``SPLIT/shards.json``.

The tar files are plain ones in WebDataset's layout (https://github.com/webdataset/webdataset): for each
image ``KEY.jpg`` and ``KEY.json``, its annotations, one after the other. The index says where in them the
bytes of each image lie, so that any can be read by itself and in any order. It is that of the images of
``annotations/instances_SPLIT.json``, in the same order.
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog, Shards
from detrkit.data.names import stays_inside
from detrkit.errors import DetrkitError, shown
from detrkit.files import require_regular

INDEX = "shards.json"
"""The name of the index in the folder of a split."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**61)]


class Origin(msgspec.Struct, frozen=True):
    """What shards were made from, and how: the same again gives the same bytes."""

    source: str
    annotations: str
    """SHA-256 of the annotations as they were then."""
    seed: int
    shard_bytes: int
    """No shard of more than one image is larger."""
    shard_images: int
    """No shard has more images."""


class Index(msgspec.Struct, frozen=True):
    """What the file of an index says. All but ``files`` and ``sizes`` have an entry for each image."""

    format: Literal[1]
    origin: Origin
    images: str
    """A digest of the ids and names of the images."""
    files: list[str]
    sizes: list[Count]
    shard: list[Count]
    offsets: list[Count]
    lengths: list[Count]
    checksums: list[Count]


def find_shards(catalog: Catalog) -> Catalog:
    """The catalog with its shards, if its folder has an index.

    Raises:
        DetrkitError: The index is damaged, unsafe, or that of other images.
    """
    index = read_index(catalog.folder)
    if index is None:
        return catalog
    if index.images != digest_images(catalog):
        raise DetrkitError(
            f"{catalog.folder / INDEX} is the index of other images than those of {catalog.source}, which "
            f"lists {len(catalog):,}: put back the annotations that belong to it, or make the shards again "
            f"from {index.origin.source}."
        )
    return replace(catalog, shards=_to_columns(index, catalog.folder / INDEX, len(catalog)))


def read_index(folder: Path) -> Index | None:
    """What the index of a folder says, or None if the folder has none."""
    file = folder / INDEX
    try:
        require_regular(file)
        return msgspec.json.decode(file.read_bytes(), type=Index)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _damaged(file, str(error)) from None


def require_shards(folder: Path, shards: Shards) -> None:
    """Raise a DetrkitError unless all shards are files in ``folder`` that have their length."""
    for name, size in zip(shards.files, shards.sizes, strict=True):
        found = size_of(folder / name)
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise DetrkitError(
                f"the shard {folder / name} {state}, but {size:,} bytes are expected: copy it again, or "
                f"delete it and run detrkit data shards again on {shards.source}."
            )


def size_of(file: Path) -> int | None:
    """The bytes of a file, or None if there is no such file."""
    return file.stat().st_size if file.is_file() else None


def digest_images(catalog: Catalog) -> str:
    """What tells the images of a catalog, in their order, from all others."""
    names = "\0".join(catalog.file_names.tolist()).encode(errors="surrogatepass")
    return sha256(catalog.image_ids.astype("<i8").tobytes() + names).hexdigest()


def _to_columns(index: Index, file: Path, num_images: int) -> Shards:
    for name in index.files:
        if not name or name == "." or any(sign in name for sign in "/\\:") or not stays_inside(name):
            reason = "is too long for a file, or could lie outside the folder"
            raise _damaged(file, f"the name {shown(name)} of a shard {reason}")
    entries = {len(column) for column in (index.shard, index.offsets, index.lengths, index.checksums)}
    if entries != {num_images} or len(index.files) != len(index.sizes):
        raise _damaged(file, f"its columns do not all have the {num_images:,} entries of its images")
    shards = Shards(
        source=index.origin.source,
        files=tuple(index.files),
        sizes=tuple(index.sizes),
        shard=_column(index.shard),
        offsets=_column(index.offsets),
        lengths=_column(index.lengths),
        checksums=_column(index.checksums),
    )
    if int(shards.shard.max()) >= len(shards.files):
        raise _damaged(file, f"an image is said to be in shard {shards.shard.max()} of {len(shards.files)}")
    beyond = np.flatnonzero(shards.offsets + shards.lengths > np.array(shards.sizes)[shards.shard])
    if len(beyond):
        raise _damaged(file, f"image {beyond[0]} is said to lie beyond the end of its shard")
    return shards


def _column(values: list[int]) -> Int64[np.ndarray, " images"]:
    return np.array(values, np.int64)


def _damaged(file: Path, reason: str) -> DetrkitError:
    return DetrkitError(
        f"the index {file} cannot be used: {reason}; copy it again, or delete it and run detrkit data shards "
        "again."
    )
