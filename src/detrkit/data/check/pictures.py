"""Faults of image files: what their headers say, and, if asked for, whether all pixels can be read."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image

from detrkit.data.check.faults import (
    IMAGE_16_BIT,
    IMAGE_ANIMATED,
    IMAGE_CMYK,
    IMAGE_FLOAT,
    IMAGE_GREY,
    IMAGE_ROTATED,
    IMAGE_SIZE_DIFFERS,
    IMAGE_TRANSPARENT,
    IMAGE_TRUNCATED,
    IMAGE_UNREADABLE,
)
from detrkit.data.check.findings import Finding, findings_of
from detrkit.data.check.listing import Listing
from detrkit.data.plausible import require_plausible
from detrkit.data.suffixes import FORMATS
from detrkit.errors import DetrkitError
from detrkit.files import require_regular

THREADS = min(8, os.cpu_count() or 1)
TAIL = 2**12
"""Bytes at the end of a file that hold its end mark, and by which files of one length are told apart."""

_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)


class Picture(NamedTuple):
    """What a file says it holds; ``size`` is (width, height) as stored, ``problem`` why it cannot be read."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    orientation: int = 1
    transparent: bool = False
    frames: int = 1
    truncated: bool = False
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Whether training could read it."""
        return not self.problem and not self.truncated and self.mode != "F"

    @property
    def lies(self) -> bool:
        """Whether EXIF turns it by a quarter, so that width and height change places."""
        return self.orientation in _QUARTER_TURNS


def look(path: Path, *, pixels: bool) -> Picture:
    """What is known of an image file from its header and its end, or from all its ``pixels``.

    Pixels are read also where the end mark of a JPEG or PNG is not where it should be, and of other formats.
    """
    try:
        require_plausible(path)
        with Image.open(path, formats=FORMATS) as image:
            picture = Picture(
                size=image.size,
                mode=image.mode,
                orientation=_orientation(image),
                transparent="A" in image.mode or "transparency" in image.info,
                frames=1 if image.format == "MPO" else int(getattr(image, "n_frames", 1)),
            )
            doubtful = not _has_end(path, image.format or "")
    except Exception as error:  # noqa: BLE001 a damaged file may raise anything in Pillow's many readers
        return Picture(problem=_reason(error))
    return _with_pixels(path, picture) if (pixels or doubtful) and picture.usable else picture


def look_at_all(
    listing: Listing, present: Bool[np.ndarray, " images"], *, pixels: bool
) -> list[Picture | None]:
    """What is known of each image of a split; None where there is no file."""

    def one(row: int) -> Picture | None:
        return look(listing.folder / listing.file_names[row], pixels=pixels) if present[row] else None

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(len(present))))


def check_pictures(listing: Listing, pictures: Sequence[Picture | None]) -> list[Finding]:
    """What is wrong with the image files of a split, or worth knowing of them."""
    conditions: list[tuple[object, Callable[[int, Picture], bool]]] = [
        (IMAGE_UNREADABLE, lambda _, one: bool(one.problem)),
        (IMAGE_TRUNCATED, lambda _, one: one.truncated),
        (IMAGE_FLOAT, lambda _, one: one.mode == "F"),
        (IMAGE_SIZE_DIFFERS, lambda row, one: size_differs(listing, row, one)),
        (IMAGE_ROTATED, lambda _, one: one.orientation != 1),
        (IMAGE_GREY, lambda _, one: one.mode in ("L", "LA", "1")),
        (IMAGE_CMYK, lambda _, one: one.mode == "CMYK"),
        (IMAGE_16_BIT, lambda _, one: one.mode.startswith("I")),
        (IMAGE_TRANSPARENT, lambda _, one: one.transparent),
        (IMAGE_ANIMATED, lambda _, one: one.frames > 1),
    ]
    found: list[Finding] = []
    for fault, holds in conditions:
        rows = [row for row, one in enumerate(pictures) if one is not None and holds(row, one)]
        found += findings_of(fault, listing.split, rows, lambda row: _describe(listing, row, pictures[row]))  # pyright: ignore
    return found


def size_differs(listing: Listing, row: int, picture: Picture) -> bool:
    """Whether the stated size is neither that of the stored pixels nor that after EXIF's turn."""
    stated = (int(listing.widths[row]), int(listing.heights[row]))
    if picture.problem or min(stated) < 1:
        return False
    return stated != picture.size and not (picture.lies and stated == picture.size[::-1])


def contents(paths: Sequence[Path | None]) -> list[str]:
    """For each file what is equal for equal content, and empty where there is no file.

    Files of one length are compared by their ends first, so that few are read whole.
    """
    keys = [str(require_regular(path)) if path else "" for path in paths]
    for digest in (_digest_of_end, digest_of):
        shared = defaultdict(list)
        for index, key in enumerate(keys):
            if key:
                shared[key].append(index)
        # a file that stands in two splits, as in VOC, is read once
        doubtful = [
            index for rows in shared.values() if len({paths[row] for row in rows}) > 1 for index in rows
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            digests = pool.map(digest, [paths[index] for index in doubtful])
            for index, value in zip(doubtful, digests, strict=True):
                keys[index] = f"{keys[index]}-{value}"
    return [
        f"{key}-{path}" if "-" not in key and path else key for key, path in zip(keys, paths, strict=True)
    ]


def digest_of(path: Path) -> str:
    """What is equal for files of equal content. An OSError for a pipe, whose reading might never end."""
    require_regular(path)
    with path.open("rb") as file:
        return file_digest(file, partial(blake2b, digest_size=16)).hexdigest()


def _digest_of_end(path: Path) -> str:
    return blake2b(_end(path), digest_size=16).hexdigest()


def _end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL))
        return file.read()


def _orientation(image: Image.Image) -> int:
    """EXIF's entry. Pillow's PNG reader would decode all pixels to look for one behind them."""
    return int(Image.Image.getexif(image).get(_ORIENTATION, 1) or 1)


def _has_end(path: Path, kind: str) -> bool:
    """Whether the end of a file is seen to be there: of a format without an end mark it never is."""
    mark = _END_MARKS.get(kind)
    return mark is not None and mark in _end(path)


def _with_pixels(path: Path, picture: Picture) -> Picture:
    from detrkit.data.images import read_image  # torch takes half a gigabyte that no other check needs

    try:
        read_image(path)
    except DetrkitError as error:
        reason = str(error)
        return picture._replace(truncated=True) if "truncated" in reason else picture._replace(problem=reason)
    return picture


def _reason(error: Exception) -> str:
    return str(error).split(" '")[0].split(" <")[0] or type(error).__name__


def _describe(listing: Listing, row: int, picture: Picture) -> str:
    name = listing.image(row)
    if picture.problem:
        return f"{name}: {picture.problem}"
    stored = f"{picture.size[0]} x {picture.size[1]}"
    if size_differs(listing, row, picture):
        return f"{name}: stored {stored}, stated {listing.widths[row]} x {listing.heights[row]}"
    return f"{name}: {stored}, {picture.mode}" + (
        f", EXIF {picture.orientation}" if picture.orientation > 1 else ""
    )
