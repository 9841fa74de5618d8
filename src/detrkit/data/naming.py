"""The names that images get in a new dataset: their own, where its layout can hold them and they are free."""

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import assert_never

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import Layout
from detrkit.data.suffixes import SUFFIXES
from detrkit.errors import DetrkitError


def new_names(
    catalogs: Mapping[str, Catalog], files: Mapping[str, Sequence[Path]], layout: Layout
) -> dict[str, list[str]]:
    """The names that the images of each split get below their folder; ``files`` says where each lies now."""
    owners: dict[str, Hashable] = {}
    named: dict[str, list[str]] = {}
    for split, catalog in catalogs.items():
        times: Counter[Hashable] = Counter()
        named[split] = []
        for index in range(len(catalog)):
            image = _identity(catalog, index, files[split][index]) if layout == "voc" else (split, index)
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


def _identity(catalog: Catalog, index: int, file: Path) -> Hashable:
    """What makes an image of one split that of another: the same file, with the same objects."""
    state = file.stat()
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
