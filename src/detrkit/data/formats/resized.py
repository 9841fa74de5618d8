"""The record of a copy with smaller images: ``resized.json`` beside the folder ``annotations``.

Such a folder is a dataset in COCO's layout whose annotations are those of the originals: sizes, boxes and
areas in the originals' pixels. Only the image files are smaller. How small says a rule that the record has
the one number for, ``views.stored_size``, so that nothing has to be kept of each image.
"""

from pathlib import Path

import msgspec

from detrkit.errors import DetrkitError
from detrkit.files import require_regular

VERSION = 1


class Resized(msgspec.Struct, frozen=True):
    """How a copy was made."""

    short_side: int
    """Larger images were resized so that their shorter side has so many pixels."""
    quality: int
    """The JPEG quality that these were saved with."""
    splits: tuple[str, ...]
    source: str
    """The folder of the originals."""
    version: int = VERSION


def record_file(root: Path) -> Path:
    """Where the record of a copy lies."""
    return root / "resized.json"


def read_resized(root: Path) -> Resized | None:
    """How the copy in ``root`` was made, or None if the dataset there is no such copy."""
    file = record_file(root)
    try:
        require_regular(file)
        found = msgspec.json.decode(file.read_bytes(), type=Resized)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise DetrkitError(
            f"{file} cannot be read ({error}): remove {root} and make the copy again with detrkit data cache."
        ) from None
    if found.version != VERSION or found.short_side < 1:
        raise DetrkitError(
            f"{file} has the version {found.version} and the short_side {found.short_side}, but version "
            f"{VERSION} and at least one pixel are expected: make the copy again with detrkit data cache."
        )
    return found


def write_resized(root: Path, record: Resized) -> None:
    """Record how the copy in ``root`` is made."""
    record_file(root).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def require_originals(root: Path) -> None:
    """Refuse a copy with smaller images where files must have the sizes that their annotations state."""
    if (found := read_resized(root)) is not None:
        raise DetrkitError(
            f"{root} is a copy for training with shorter sides of {found.short_side} pixels at most, whose "
            f"annotations are those of the originals: name their folder, which was {found.source}."
        )
