"""A mended copy of a dataset in COCO's layout, and the list of all that was changed.

What can be mended without guessing is; what cannot is left out. The copy has the fields of detection alone:
outlines and other fields stay behind. Image files are hard links, or copies on another disk; only
those that EXIF turns are encoded anew, upright.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from PIL import Image, ImageOps

from detrkit.catalog import Catalog, Category
from detrkit.data.check.boxes import ROUNDING, repeated_boxes, wrong_areas, wrong_convention
from detrkit.data.check.examine import Examined
from detrkit.data.check.faults import BOXES_NORMALISED, BOXES_ONE_BASED, BOXES_WRONG_ORDER
from detrkit.data.check.listing import NO_ID, Listing, repeats
from detrkit.data.check.pictures import Picture, size_differs
from detrkit.data.check.splits import Contents
from detrkit.data.formats.coco import annotations_file, write_coco
from detrkit.data.names import require_writable
from detrkit.data.suffixes import FORMATS
from detrkit.errors import DetrkitError

SAME_SHAPE = 0.01
"""By how much the scales of width and height may differ where an image was resized as a whole."""


class Change(NamedTuple):
    """What was done to one image, annotation or category of a split, or to all of a split."""

    split: str
    subject: str
    done: str


def write_repaired(examined: Examined, target: Path) -> list[Change]:
    """Write the mended copy to ``target``, with ``changes.json`` and ``changes.txt``, and return the changes.

    Raises:
        DetrkitError: The folder is not empty, nothing is left to be written, or a name cannot be.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DetrkitError(f"{target} is not an empty folder: name a new one for the mended copy.")
    categories, changes = _common_categories(examined.listings)
    leaving = _leaving(examined)
    repaired = []
    for listing, pictures, reasons in zip(examined.listings, examined.pictures, leaving, strict=True):
        catalog, done = _repair(listing, pictures, reasons, categories)
        changes += done
        if len(catalog):
            repaired.append((listing, pictures, catalog))
        else:
            changes.append(Change(listing.split, "the split", "left out, for no image remains"))
    if not repaired:
        raise DetrkitError(
            f"no image of the dataset can be used, so nothing is written to {target}: restore it."
        )
    for _, _, catalog in repaired:
        require_writable(catalog.file_names.tolist(), catalog.source)
    for listing, pictures, catalog in repaired:
        write_coco(catalog, annotations_file(target, listing.split))
        _place_images(listing, pictures, catalog, target / listing.split)
    _write_changes(changes, target)
    return changes


def _write_changes(changes: list[Change], target: Path) -> None:
    entries = [change._asdict() for change in changes]
    lines = "".join(f"{change.split}: {change.subject}: {change.done}\n" for change in changes)
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    # what UTF-8 lacks becomes an escape, which in json reads back to the same
    (target / "changes.json").write_text(text, "utf-8", "backslashreplace")
    (target / "changes.txt").write_text(
        "".join(lines) or "nothing was changed\n", "utf-8", "backslashreplace"
    )


# --- classes


def _common_categories(listings: Sequence[Listing]) -> tuple[tuple[Category, ...], list[Change]]:
    """One list of categories for all splits, with the ids that they have where these agree."""
    changes: list[Change] = []
    ids: dict[str, int] = {}
    for listing in listings:
        for category in listing.categories:
            name = _name(category)
            taken = category.id == NO_ID or category.id in ids.values()
            if name not in ids:
                ids[name] = 1 + max(ids.values(), default=0) if taken else category.id
            if ids[name] != category.id or name != category.name:
                done = f"is now category {ids[name]} '{name}'"
                changes.append(Change(listing.split, f"category {category.id} '{category.name}'", done))
    return tuple(sorted(Category(number, name) for name, number in ids.items())), changes


def _name(category: Category) -> str:
    return category.name or f"class {category.id}"


# --- images


def _leaving(examined: Examined) -> list[dict[int, str]]:
    """For each split, the images that are left out, and why."""
    leaving = [
        _unusable(listing, pictures)
        for listing, pictures in zip(examined.listings, examined.pictures, strict=True)
    ]
    smallest_first = sorted(range(len(leaving)), key=lambda one: len(examined.listings[one].image_ids))
    seen: dict[str, str] = {}
    for index in smallest_first:
        listing = examined.listings[index]
        for content, rows in _rows_by_content(examined.contents[index]).items():
            usable = [row for row in rows if row not in leaving[index]]
            if not usable:
                continue
            kept = (
                max(usable, key=lambda row: (listing.objects()[row], -row)) if len(usable) > 1 else usable[0]
            )
            for row in usable:
                if content in seen:
                    leaving[index][row] = f"left out, being in another split as {seen[content]}"
                elif listing.file_names[row] != listing.file_names[kept]:
                    leaving[index][row] = f"left out, being the same as {listing.image(kept)}"
            seen.setdefault(content, f"{listing.split}/{listing.image(kept)}")
    return leaving


def _unusable(listing: Listing, pictures: Sequence[Picture | None]) -> dict[int, str]:
    return {
        row: "left out, for its file is missing, outside the folder or cannot be read"
        for row, picture in enumerate(pictures)
        if picture is None or not picture.usable
    }


def _rows_by_content(contents: Contents) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        if content:
            rows.setdefault(content, []).append(row)
    return rows


# --- one split


def _repair(
    listing: Listing,
    pictures: Sequence[Picture | None],
    leaving: dict[int, str],
    categories: tuple[Category, ...],
) -> tuple[Catalog, list[Change]]:
    split = listing.split
    changes = [Change(split, listing.image(row), reason) for row, reason in sorted(leaving.items())]
    boxes, done = _in_cocos_convention(listing)
    sized, scales, resized = _with_sizes(replace(listing, boxes=boxes), pictures, leaving)
    merged, together = _merged(sized, leaving)
    clipped, cut = _clipped(merged, scales)
    kept, dropped = _kept_annotations(clipped)
    areas, corrected = _areas(clipped, kept)
    changes += [*done, *resized, *together, *cut, *dropped, *corrected]
    staying = np.array(
        [row not in leaving and row == first for row, first in enumerate(_first_of_file(listing))], np.bool_
    )
    return _catalog(replace(clipped, areas=areas), staying, kept, categories, changes), changes


def _in_cocos_convention(listing: Listing) -> tuple[Float64[np.ndarray, "annotations 4"], list[Change]]:
    """The boxes as ``[x, y, width, height]`` in pixels from 0, with positive sizes."""
    boxes, changes = listing.boxes.copy(), []
    convention = wrong_convention(listing)
    if convention is BOXES_WRONG_ORDER:
        boxes[:, 2:] -= boxes[:, :2]
        changes.append(Change(listing.split, "all boxes", "right and bottom became width and height"))
    elif convention is BOXES_NORMALISED:
        boxes *= np.tile(listing.sizes(), 2)
        changes.append(Change(listing.split, "all boxes", "multiplied by the size of their image"))
    elif convention is BOXES_ONE_BASED:
        boxes[:, :2] -= 1
        changes.append(Change(listing.split, "all boxes", "moved by a pixel, to begin at 0"))
    turned = np.any(boxes[:, 2:] < 0, axis=1)
    boxes[:, :2] += boxes[:, 2:].clip(max=0)
    boxes[:, 2:] = np.abs(boxes[:, 2:])
    changes += _each(listing, turned, "its corners were put in order")
    return boxes, changes


def _with_sizes(
    listing: Listing, pictures: Sequence[Picture | None], leaving: dict[int, str]
) -> tuple[Listing, Float64[np.ndarray, "images 2"], list[Change]]:
    """The listing with the sizes of its files, and by how much boxes of each image are to be scaled."""
    sizes = np.stack([listing.widths, listing.heights], axis=1)
    scales, changes = np.ones((len(sizes), 2)), []
    for row, picture in enumerate(pictures):
        if picture is None or row in leaving:
            continue
        invalid = min(sizes[row]) < 1
        if not invalid and not size_differs(listing, row, picture):
            continue
        done = f"its size {sizes[row, 0]} x {sizes[row, 1]} became {picture.size[0]} x {picture.size[1]}"
        if not invalid:
            scale = np.array(picture.size) / sizes[row]
            if abs(scale[0] / scale[1] - 1) < SAME_SHAPE:
                scales[row] = scale
                done += ", and its boxes were scaled"
        sizes[row] = picture.size
        changes.append(Change(listing.split, listing.image(row), done))
    return replace(listing, widths=sizes[:, 0], heights=sizes[:, 1]), scales, changes


def _first_of_file(listing: Listing) -> list[int]:
    """For each image, the first that names its file."""
    first: dict[str, int] = {}
    return [first.setdefault(name, row) for row, name in enumerate(listing.file_names)]


def _merged(listing: Listing, leaving: dict[int, str]) -> tuple[Listing, list[Change]]:
    """The listing with the objects of entries for one file brought together at the first of them."""
    first = _first_of_file(listing)
    rows = [row for row, one in enumerate(first) if row != one and row not in leaving]
    owners = listing.owners
    if len(first):
        owners = np.where(owners >= 0, np.array(first, np.int64)[owners], -1)
    leaves = np.isin(owners, list(leaving))
    done = "became one with the first entry of this file"
    return replace(listing, owners=np.where(leaves, -1, owners)), [
        Change(listing.split, listing.image(row), done) for row in rows
    ]


def _clipped(listing: Listing, scales: Float64[np.ndarray, "images 2"]) -> tuple[Listing, list[Change]]:
    """The listing with boxes scaled and cut to their images."""
    if not len(scales):
        return listing, []
    scale = np.where(listing.owners[:, None] >= 0, scales[listing.owners], 1)
    boxes = listing.boxes * np.tile(scale, 2)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    inside = corners.clip(0, np.tile(listing.sizes(), 2))
    outside = np.abs(inside - corners).max(axis=1, initial=0) > ROUNDING
    inside[:, 2:] -= inside[:, :2]
    boxes = np.where(outside[:, None], inside, boxes)
    # an outline's area is no longer known where a box was cut
    areas = np.where(outside, boxes[:, 2] * boxes[:, 3], listing.areas * scale.prod(axis=1))
    return replace(listing, boxes=boxes, areas=areas), _each(listing, outside, "its box was cut to its image")


def _kept_annotations(listing: Listing) -> tuple[Bool[np.ndarray, " annotations"], list[Change]]:
    finite: np.ndarray = np.all(np.isfinite(listing.boxes), axis=1)
    kept = np.ones(len(finite), np.bool_)
    changes: list[Change] = []
    reasons: list[tuple[np.ndarray, str]] = [
        (listing.owners < 0, "left out, for its image is not known or is left out"),
        (listing.labels < 0, "left out, for its category is not known"),
        (~finite, "left out, for its box is not four finite numbers"),
        (
            finite & np.any(listing.boxes[:, 2:] <= 0, axis=1),
            "left out, for its box has no area in its image",
        ),
        (repeated_boxes(listing), "left out, being there twice"),
    ]
    for faulty, done in reasons:
        changes += _each(listing, kept & faulty, done)
        kept &= ~faulty
    return kept, changes


def _areas(
    listing: Listing, kept: Bool[np.ndarray, " annotations"]
) -> tuple[Float64[np.ndarray, " annotations"], list[Change]]:
    wrong = kept & (np.isnan(listing.areas) | wrong_areas(listing))
    areas = np.where(wrong, listing.boxes[:, 2] * listing.boxes[:, 3], listing.areas)
    return areas, _each(listing, wrong, "its area became its box's")


def _catalog(
    listing: Listing,
    staying: Bool[np.ndarray, " images"],
    kept: Bool[np.ndarray, " annotations"],
    categories: tuple[Category, ...],
    changes: list[Change],
) -> Catalog:
    """The catalog of the images and annotations that stay; renumbering is added to the changes."""
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(listing.owners[rows], kind="stable")]
    place = np.cumsum(staying) - 1
    owners = place[listing.owners[rows]] if len(rows) else rows
    label_of = {category.name: label for label, category in enumerate(categories)}
    labels = np.array([label_of[_name(category)] for category in listing.categories], np.int64)
    boxes = listing.boxes[rows].copy()
    boxes[:, 2:] += boxes[:, :2]
    return Catalog(
        source=listing.source,
        folder=listing.folder,
        categories=categories,
        image_ids=_numbered(listing.image_ids[staying], "images", listing.split, changes),
        file_names=np.array([listing.file_names[row] for row in np.flatnonzero(staying)], dtype=np.str_),
        widths=listing.widths[staying],
        heights=listing.heights[staying],
        offsets=np.searchsorted(owners, np.arange(int(staying.sum()) + 1)).astype(np.int64),
        annotation_ids=_numbered(listing.annotation_ids[rows], "annotations", listing.split, changes),
        boxes=boxes,
        labels=labels[listing.labels[rows]] if len(rows) else rows.astype(np.int64),
        areas=listing.areas[rows],
        crowds=listing.crowds[rows],
    )


def _numbered(ids: np.ndarray, what: str, split: str, changes: list[Change]) -> Int64[np.ndarray, " ids"]:
    """The ids, or the numbers from 1 where one is missing or repeats."""
    if not repeats(ids).any() and NO_ID not in ids:
        return ids
    changes.append(Change(split, f"all {what}", "numbered from 1, for ids were missing or stood twice"))
    return np.arange(1, len(ids) + 1)


def _each(listing: Listing, chosen: Bool[np.ndarray, " annotations"], done: str) -> list[Change]:
    return [Change(listing.split, listing.annotation(int(row)), done) for row in np.flatnonzero(chosen)]


# --- files


def _place_images(
    listing: Listing, pictures: Sequence[Picture | None], catalog: Catalog, folder: Path
) -> None:
    first = {name: row for row, name in reversed(list(enumerate(listing.file_names)))}
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(catalog)):
        name = str(catalog.file_names[index])
        destination, picture = folder / name, pictures[first[name]]
        destination.parent.mkdir(parents=True, exist_ok=True)
        if picture is not None and _lies_beside_its_boxes(picture, catalog.size(index)):
            _write_upright(catalog.path(index), destination)
        elif not destination.exists():
            _link(catalog.path(index), destination)


def _lies_beside_its_boxes(picture: Picture, stated: tuple[int, int]) -> bool:
    """Whether only EXIF's turn gives the stated (height, width), which for a square says nothing."""
    width, height = picture.size
    return picture.lies and width != height and stated == (width, height)


def _link(source: Path, destination: Path) -> None:
    try:
        os.link(source.resolve(), destination)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, destination)


def _write_upright(source: Path, destination: Path) -> None:
    with Image.open(source, formats=FORMATS) as image:
        upright = ImageOps.exif_transpose(image)
        options = {"quality": 95, "subsampling": 0} if image.format in ("JPEG", "MPO") else {}
        upright.save(destination, format="JPEG" if image.format == "MPO" else image.format, **options)
