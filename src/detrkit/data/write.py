"""A new folder with the images and annotations of catalogs: names, placing, writing, and one rename."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, assert_never

import numpy as np
from PIL import Image

from detrkit.catalog import Catalog
from detrkit.data.formats.coco import annotations_file, write_coco
from detrkit.data.formats.recognise import Layout
from detrkit.data.formats.voc import write_voc_split
from detrkit.data.formats.yolo import write_yolo
from detrkit.data.headers import read_header
from detrkit.data.naming import new_names
from detrkit.data.suffixes import FORMATS
from detrkit.errors import DetrkitError

_APP1, _START_OF_SCAN = 0xE1, 0xDA
"""Markers of a JPEG."""

Placing = Literal["linked", "copied", "saved anew"]
"""How an image came to its place."""


class Written(NamedTuple):
    """What was written: the splits by their names, how the images came there, and what changed."""

    catalogs: dict[str, Catalog]
    placed: Counter[Placing]
    changes: list[str]


def write_dataset(
    catalogs: Mapping[str, Catalog],
    target: Path,
    layout: Layout,
    files: Mapping[str, Sequence[Path]] | None = None,
) -> Written:
    """Write splits, which the layout can hold as they are, to the new folder ``target``.

    Images are hard links where the file system can make them, else copies. The folder gets its name when all
    is written, so that under it there is a whole dataset or none.

    Args:
        catalogs: Splits with the same categories, and the names of files that are wanted.
        target: A folder that does not exist, or is empty.
        layout: That of the new dataset.
        files: Where the images of each split lie, unless where its catalog says.

    Raises:
        DetrkitError: An image cannot be named or meant in the layout, or ``target`` cannot be written or
            holds something.
    """
    require_new(target)
    if files is None:
        files = {split: paths(catalog) for split, catalog in catalogs.items()}
    names = new_names(catalogs, files, layout)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".part") as passing:
            building = Path(passing) / "dataset"
            placed = _place(catalogs, files, names, layout, building)
            written = _with_names(catalogs, names)
            _write(written, layout, building)
            _give_name(building, target)
    except OSError as error:
        raise DetrkitError(
            f"{target} cannot be written ({error}): make room, or name a folder that can be."
        ) from None
    changes = _renamed_images(catalogs, names)
    if anew := placed["saved anew"]:
        changes.append(
            f"images saved anew without their EXIF orientation, which their boxes ignore: {anew:,}"
        )
    return Written(written, placed, changes)


def require_new(target: Path) -> None:
    """Raise a DetrkitError unless a folder of that name can be made, or there is an empty one."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise DetrkitError(f"{target} already exists and is not empty: name a new folder, or remove it.")


def link_or_copy(stored: Path, image: Path) -> Placing:
    """Make ``image`` a hard link to a file, or a copy where the file system cannot make one."""
    if stored.is_symlink():
        stored = stored.resolve()  # else a relative link would be linked, and lead nowhere
    try:
        os.link(stored, image)
    except OSError:
        shutil.copy2(stored, image)
        return "copied"
    return "linked"


def paths(catalog: Catalog) -> list[Path]:
    """Where the files of all images lie."""
    return [catalog.folder / name for name in catalog.file_names.tolist()]


def _renamed_images(catalogs: Mapping[str, Catalog], names: Mapping[str, list[str]]) -> list[str]:
    number = sum(
        str(old) != new
        for split, catalog in catalogs.items()
        for old, new in zip(catalog.file_names, names[split], strict=True)
    )
    return [f"images with another name: {number:,}"] if number else []


def _with_names(catalogs: Mapping[str, Catalog], names: Mapping[str, list[str]]) -> dict[str, Catalog]:
    return {split: replace(catalog, file_names=np.array(names[split])) for split, catalog in catalogs.items()}


def _place(
    catalogs: Mapping[str, Catalog],
    files: Mapping[str, Sequence[Path]],
    names: Mapping[str, list[str]],
    layout: Layout,
    root: Path,
) -> Counter[Placing]:
    """Put the images of all splits where the layout has them."""
    placed: Counter[Placing] = Counter()
    folders: set[Path] = set()
    for split, catalog in catalogs.items():
        for index, name in enumerate(names[split]):
            image = _images_folder(root, split, layout) / name
            if layout == "voc" and image.exists():
                continue  # another split has it too
            if image.parent not in folders:
                image.parent.mkdir(parents=True, exist_ok=True)
                folders.add(image.parent)
            stored = files[split][index]
            if layout == "yolo" and _turns_wrongly(stored, catalog.size(index)):
                _save_unturned(stored, image)
                placed["saved anew"] += 1
            else:
                placed[link_or_copy(stored, image)] += 1
    return placed


def _images_folder(root: Path, split: str, layout: Layout) -> Path:
    match layout:
        case "coco":
            return root / split
        case "voc":
            return root / "JPEGImages"
        case "yolo":
            return root / "images" / split
        case unknown:
            assert_never(unknown)


def _turns_wrongly(stored: Path, size: tuple[int, int]) -> bool:
    """Whether tools of YOLO, which turn by EXIF, would turn an image whose boxes mean the stored pixels.

    Fractions need the true size, so another one is refused.
    """
    header = read_header(stored)
    if size == (header.height, header.width):
        return header.orientation != 1
    if size == header.shown:
        return False
    raise DetrkitError(
        f"the image {stored} is {header.width} x {header.height} pixels, but its dataset states "
        f"{size[1]} x {size[0]} (width x height): correct the annotations or restore the file."
    )


def _save_unturned(stored: Path, image: Path) -> None:
    """Save the same pixels without the notes that turn them."""
    with Image.open(stored, formats=FORMATS) as opened:
        if opened.format in ("JPEG", "MPO"):
            image.write_bytes(_without_notes(stored.read_bytes()))
        else:
            pixels = opened.copy()
            pixels.info = {}
            pixels.save(image, opened.format, lossless=True)


def _without_notes(jpeg: bytes) -> bytes:
    """A JPEG without its APP1 segments, EXIF and XMP, so that nothing is compressed again."""
    kept, place = [jpeg[:2]], 2
    while jpeg[place : place + 1] == b"\xff" and jpeg[place + 1] != _START_OF_SCAN:
        following = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != _APP1:
            kept.append(jpeg[place:following])
        place = following
    return b"".join([*kept, jpeg[place:]])


def _write(catalogs: Mapping[str, Catalog], layout: Layout, root: Path) -> None:
    match layout:
        case "coco":
            for split, catalog in catalogs.items():
                write_coco(catalog, annotations_file(root, split))
        case "voc":
            for split, catalog in catalogs.items():
                write_voc_split(root, split, catalog)
        case "yolo":
            write_yolo(root, catalogs)
        case unknown:
            assert_never(unknown)


def _give_name(building: Path, target: Path) -> None:
    if target.is_dir():
        target.rmdir()  # it is empty
    building.rename(target)
