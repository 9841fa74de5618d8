"""A dataset in another layout: what of it is asked for, and what got lost on the way.

What is carried over is what a Catalog holds: images, boxes, classes, areas and crowds. Masks, keypoints,
captions, poses and parts are not read.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detrkit.catalog import Catalog, require_files
from detrkit.data.dataset import require_images
from detrkit.data.formats.limits import limit
from detrkit.data.formats.recognise import Layout, read_split, recognise, splits
from detrkit.data.formats.resized import require_originals
from detrkit.data.formats.yolo import SPLITS
from detrkit.data.write import Written, require_new, write_dataset
from detrkit.errors import DetrkitError


def convert(
    source: Path,
    target: Path,
    layout: Layout,
    *,
    source_layout: Layout | None = None,
    chosen: tuple[str, ...] = (),
) -> Written:
    """Write the dataset in ``source`` to the new folder ``target`` in another layout.

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
    require_new(target)
    catalogs = read_dataset(source, chosen, source_layout)
    require_same_categories(catalogs)
    return write_limited(catalogs, target, layout, insist=bool(chosen))


def read_dataset(
    source: Path, chosen: tuple[str, ...] = (), layout: Layout | None = None
) -> dict[str, Catalog]:
    """The chosen splits of a dataset, by default all; DetrkitError unless all of their images are there."""
    require_originals(source)
    layout = layout or recognise(source)
    catalogs = {split: read_split(source, split, layout) for split in chosen_splits(source, layout, chosen)}
    for catalog in catalogs.values():
        require_files(catalog)
        require_images(catalog)
    return catalogs


def write_limited(
    catalogs: Mapping[str, Catalog],
    target: Path,
    layout: Layout,
    files: Mapping[str, Sequence[Path]] | None = None,
    *,
    insist: bool,
) -> Written:
    """Write what a layout can say of splits of the same categories to the new folder ``target``.

    Images lie where ``files`` says, unless where the catalogs say. A split that YOLO has no name for is left
    out, or refused if all of them must be written: ``insist``.
    """
    renamed, changes = _renamed_splits(list(catalogs), layout, target, insist)
    limited = limit({new: catalogs[old] for old, new in renamed.items()}, layout)
    if files is not None:
        files = {new: files[old] for old, new in renamed.items()}
    written = write_dataset(limited.catalogs, target, layout, files)
    return written._replace(changes=changes + limited.changes + written.changes)


def require_same_categories(catalogs: Mapping[str, Catalog]) -> None:
    """Raise a DetrkitError if a class is in some of the splits alone."""
    first, *others = catalogs.values()
    for other in others:
        if other.categories != first.categories:
            differing = sorted(set(other.categories) ^ set(first.categories))[0]
            raise DetrkitError(
                f"{first.source} and {other.source} have different categories: {differing.id} "
                f"'{differing.name}' is in one of them alone; give both the same, or choose with --splits."
            )


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
    given: list[str], layout: Layout, target: Path, insist: bool
) -> tuple[dict[str, str], list[str]]:
    """The new names of the splits by their old ones, as far as the layout has any, and what that changes."""
    if layout != "yolo":
        return {split: split for split in given}, []
    renamed = {split: new for split in given if (new := re.sub(r"\d+$", "", split)) in SPLITS}
    lacking = [split for split in given if split not in renamed]
    if not renamed or (insist and lacking):
        raise DetrkitError(
            f"{target} would have the splits {', '.join(given)}, but YOLO's are {', '.join(SPLITS)}, with a "
            "year at most: choose or name such, or write coco or voc."
        )
    if len(set(renamed.values())) < len(renamed):
        raise DetrkitError(
            f"{target} would have the splits {', '.join(renamed)}, but YOLO has one of each of "
            f"{', '.join(SPLITS)}: choose with --splits."
        )
    changes = [f"split {split}, left out: YOLO has {', '.join(SPLITS)}" for split in lacking]
    return renamed, changes + [f"split {old}, renamed: {new}" for old, new in renamed.items() if old != new]
