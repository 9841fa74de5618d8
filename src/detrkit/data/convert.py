"""A dataset in another layout: annotations written anew, images linked, and what got lost on the way.

What is carried over is what a Catalog holds: images, boxes, classes, areas and crowds. Masks, keypoints,
captions, poses and parts are not read.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, assert_never

import numpy as np
from PIL import Image

from detrkit.catalog import Catalog, require_files
from detrkit.data.dataset import require_images
from detrkit.data.formats.coco import annotations_file, write_coco
from detrkit.data.formats.limits import limit
from detrkit.data.formats.recognise import Layout, read_split, recognise, splits
from detrkit.data.formats.voc import write_voc_split
from detrkit.data.formats.yolo import SPLITS, write_yolo
from detrkit.data.headers import read_header
from detrkit.data.suffixes import SUFFIXES
from detrkit.errors import DetrkitError

_APP1, _START_OF_SCAN = 0xE1, 0xDA
"""Markers of a JPEG."""

Placing = Literal["linked", "copied", "saved anew"]
"""How an image came to its place."""


class Conversion(NamedTuple):
    """What was written: the splits by their new names, how the images came there, and what changed."""

    catalogs: dict[str, Catalog]
    placed: Counter[Placing]
    changes: list[str]


def convert(
    source: Path,
    target: Path,
    layout: Layout,
    *,
    source_layout: Layout | None = None,
    chosen: tuple[str, ...] = (),
) -> Conversion:
    """Write the dataset in ``source`` to the new folder ``target`` in another layout.

    Images are hard links where the file system can make them, else copies. The folder gets its name when all
    is written, so that under it there is a whole dataset or none.

    Args:
        source: A dataset in any layout.
        target: A folder that does not exist, or is empty.
        layout: That of the new dataset.
        source_layout: Unless given, it is recognised.
        chosen: Splits, by default all. What YOLO has no name for is left out then.

    Raises:
        DetrkitError: What in the source is not as its layout says, what the new one cannot hold, or that
            ``target`` cannot be written or holds something.
    """
    _require_new(target)
    source_layout = source_layout or recognise(source)
    renamed, changes = _renamed_splits(
        chosen_splits(source, source_layout, chosen), layout, source, bool(chosen)
    )
    given = {new: read_split(source, old, source_layout) for old, new in renamed.items()}
    _require_same_categories(given)
    for catalog in given.values():
        require_files(catalog)
        require_images(catalog)
    limited = limit(given, layout)
    names = _file_names(limited.catalogs, layout)
    changes += limited.changes + _renamed_images(limited.catalogs, names)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".part") as passing:
            building = Path(passing) / "dataset"
            placed = _place(limited.catalogs, names, layout, building)
            catalogs = _with_names(limited.catalogs, names)
            _write(catalogs, layout, building)
            _give_name(building, target)
    except OSError as error:
        raise DetrkitError(
            f"{target} cannot be written ({error}): make room, or name a folder that can be."
        ) from None
    if anew := placed["saved anew"]:
        changes.append(
            f"images saved anew without their EXIF orientation, which their boxes ignore: {anew:,}"
        )
    return Conversion(catalogs, placed, changes)


def _require_new(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise DetrkitError(f"{target} already exists and is not empty: name a new folder, or remove it.")


def chosen_splits(source: Path, layout: Layout, chosen: tuple[str, ...]) -> list[str]:
    """The splits that were chosen, or all of a dataset; DetrkitError if it does not have one."""
    if not source.is_dir():
        raise DetrkitError(f"the dataset {source} is not a folder: name the folder that holds it.")
    found = splits(source, layout)
    if not found:
        raise DetrkitError(
            f"{source} has no split in the layout {layout}: leave out --from to have it recognised."
        )
    for split in chosen:
        if split not in found:
            raise DetrkitError(f"{source} has no split {split}, but {', '.join(found)}: name some of these.")
    return list(dict.fromkeys(chosen)) or found


def _renamed_splits(
    given: list[str], layout: Layout, source: Path, insist: bool
) -> tuple[dict[str, str], list[str]]:
    """The new names of the splits by their old ones, as far as the layout has any, and what that changes."""
    if layout != "yolo":
        return {split: split for split in given}, []
    renamed = {split: new for split in given if (new := re.sub(r"\d+$", "", split)) in SPLITS}
    lacking = [split for split in given if split not in renamed]
    if not renamed or (insist and lacking):
        raise DetrkitError(
            f"{source} has the splits {', '.join(given)}, but YOLO's are {', '.join(SPLITS)}, with a year at "
            "most: choose such with --splits, or convert to coco or voc."
        )
    if len(set(renamed.values())) < len(renamed):
        raise DetrkitError(
            f"{source} has the splits {', '.join(renamed)}, but YOLO has one of each of {', '.join(SPLITS)}: "
            "choose with --splits."
        )
    changes = [f"split {split}, left out: YOLO has {', '.join(SPLITS)}" for split in lacking]
    return renamed, changes + [f"split {old}, renamed: {new}" for old, new in renamed.items() if old != new]


def _require_same_categories(catalogs: Mapping[str, Catalog]) -> None:
    first, *others = catalogs.values()
    for other in others:
        if other.categories != first.categories:
            differing = sorted(set(other.categories) ^ set(first.categories))[0]
            raise DetrkitError(
                f"{first.source} and {other.source} have different categories: {differing.id} "
                f"'{differing.name}' is in one of them alone; give both the same, or choose with --splits."
            )


def _file_names(catalogs: Mapping[str, Catalog], layout: Layout) -> dict[str, list[str]]:
    """The names that images get below their folder; kept where the layout can hold them."""
    owners: dict[str, Hashable] = {}
    named: dict[str, list[str]] = {}
    for split, catalog in catalogs.items():
        times: Counter[Hashable] = Counter()
        named[split] = []
        for index in range(len(catalog)):
            image = _identity(catalog, index) if layout == "voc" else (split, index)
            times[image] += 1  # an image that a split has twice becomes two
            wanted = _spelled(str(catalog.file_names[index]), layout, catalog)
            owner = (image, times[image])
            free = (
                name
                for name in _candidates(wanted, split)
                if owners.setdefault(_claimed(name, split, layout), owner) == owner
            )
            named[split].append(next(free))
    return named


def _identity(catalog: Catalog, index: int) -> Hashable:
    """What makes an image of one split that of another: the same file, with the same objects."""
    state = catalog.path(index).stat()
    rows = catalog.rows(index)
    columns = (catalog.boxes[rows], catalog.labels[rows], catalog.crowds[rows])
    return state.st_dev, state.st_ino, catalog.size(index), *(column.tobytes() for column in columns)


def _spelled(name: str, layout: Layout, catalog: Catalog) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DetrkitError(
            f"{catalog.source}: the name {name!r} of an image is no valid Unicode: rename the file."
        ) from None
    match layout:
        case "coco":
            return name
        case "voc":
            plain = "".join(one if one.isprintable() and one not in " /\\" else "_" for one in name)
            return re.sub(r"^\.", "_", plain)
        case "yolo":
            if not name.lower().endswith(SUFFIXES):
                raise DetrkitError(
                    f"{catalog.folder / name} would be no image in YOLO's layout, where names end in "
                    f"{', '.join(SUFFIXES)}: rename it, and in {catalog.source}."
                )
            return re.sub(r"(^|/)\.", r"\1_", name)
        case unknown:
            assert_never(unknown)


def _candidates(name: str, split: str) -> Iterator[str]:
    """The name, and others for the case that an image has it already."""
    path = PurePosixPath(name)
    yield name
    yield str(path.with_name(f"{split}_{path.name}"))
    for number in count(2):
        yield str(path.with_name(f"{split}_{path.stem}_{number}{path.suffix}"))


def _claimed(name: str, split: str, layout: Layout) -> str:
    """What no other image may have: the file, or that of its annotations."""
    match layout:
        case "coco":
            return f"{split}/{name}"
        case "voc":
            return str(PurePosixPath(name).with_suffix(""))
        case "yolo":
            return f"{split}/{PurePosixPath(name).with_suffix('')}"
        case unknown:
            assert_never(unknown)


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
    catalogs: Mapping[str, Catalog], names: Mapping[str, list[str]], layout: Layout, root: Path
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
            stored = catalog.path(index)
            if layout == "yolo" and _turns_wrongly(stored, catalog.size(index)):
                _save_unturned(stored, image)
                placed["saved anew"] += 1
            else:
                placed[_link_or_copy(stored, image)] += 1
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
    with Image.open(stored) as opened:
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


def _link_or_copy(stored: Path, image: Path) -> Placing:
    stored = stored.resolve()  # else a relative link would be linked, and lead nowhere
    try:
        os.link(stored, image)
    except OSError:
        shutil.copy2(stored, image)
        return "copied"
    return "linked"


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
