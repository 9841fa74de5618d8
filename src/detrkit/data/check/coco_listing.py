"""The listing of a COCO json whatever its values are: numbers in quotes, NaN, ids that nothing has."""

import json
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Category
from detrkit.data.check.faults import (
    ANNOTATION_ID_MISSING,
    ANNOTATIONS_REFUSED,
    AREA_MISSING,
    CROWD_FLAG,
    ID_TYPE,
    JSON_LENIENT,
)
from detrkit.data.check.findings import Finding, findings_of
from detrkit.data.check.listing import NO_ID, Listing, positions
from detrkit.data.plausible import LARGEST
from detrkit.files import require_regular

Loose = tuple[Any, ...] | dict[str, Any] | str | int | float | bool | None
"""Any value, lists as tuples: the garbage collector lets go of tuples of numbers."""


class _Image(msgspec.Struct, gc=False):
    id: Loose = None
    file_name: Loose = None
    width: Loose = None
    height: Loose = None


class _Annotation(msgspec.Struct, gc=False):
    id: Loose = None
    image_id: Loose = None
    category_id: Loose = None
    bbox: Loose = None
    area: Loose = None
    iscrowd: Loose = 0


class _Category(msgspec.Struct, gc=False):
    id: Loose = None
    name: Loose = None


class _Coco(msgspec.Struct):
    images: list[_Image] = []
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


def read_listing(annotations: Path, folder: Path, split: str) -> tuple[Listing | None, list[Finding]]:
    """The listing of a COCO json, and the faults that it cannot hold; None if there is nothing to list."""
    try:
        content, findings = _decode(annotations, split)
    except (ValueError, OSError, RecursionError, msgspec.MsgspecError) as error:
        return None, [Finding(ANNOTATIONS_REFUSED, split, 1, (f"{annotations}: {error}",))]
    image_ids, image_faults = _ids(content.images, "id")
    category_ids, category_faults = _ids(content.categories, "id")
    annotation_ids, annotation_faults = _ids(content.annotations, "id")
    owner_ids, owner_faults = _ids(content.annotations, "image_id")
    label_ids, label_faults = _ids(content.annotations, "category_id")
    boxes, numbers = _boxes(content.annotations)
    areas, area_missing = _areas(content.annotations)
    crowds, crowd_faults = _crowds(content.annotations)
    listing = Listing(
        split=split,
        source=annotations,
        folder=folder,
        categories=tuple(
            Category(int(number), _text(category.name).strip())
            for number, category in zip(category_ids, content.categories, strict=True)
        ),
        image_ids=image_ids,
        file_names=[_text(image.file_name) for image in content.images],
        widths=_sides(content.images, "width"),
        heights=_sides(content.images, "height"),
        annotation_ids=annotation_ids,
        owners=positions(owner_ids, image_ids),
        labels=positions(label_ids, category_ids),
        boxes=boxes,
        numbers=numbers,
        areas=areas,
        crowds=crowds,
    )
    unnumbered = [row for row in annotation_faults if content.annotations[row].id is None]
    mistyped = [
        *(f"image {content.images[row].id!r}" for row in image_faults),
        *(f"category {content.categories[row].id!r}" for row in category_faults),
        *(
            f"annotation {content.annotations[row].id!r}"
            for row in annotation_faults
            if content.annotations[row].id is not None
        ),
        *(f"image_id {content.annotations[row].image_id!r}" for row in owner_faults),
        *(f"category_id {content.annotations[row].category_id!r}" for row in label_faults),
    ]
    findings += findings_of(ID_TYPE, split, range(len(mistyped)), lambda row: mistyped[row])
    findings += findings_of(ANNOTATION_ID_MISSING, split, unnumbered, listing.annotation)
    findings += findings_of(AREA_MISSING, split, area_missing, listing.annotation)
    findings += findings_of(
        CROWD_FLAG,
        split,
        crowd_faults,
        lambda row: f"{listing.annotation(row)}: {content.annotations[row].iscrowd!r}",
    )
    return listing, findings


def _text(name: object) -> str:
    """A name, with escapes for what cannot be written; empty for what is none."""
    return name.encode(errors="backslashreplace").decode() if isinstance(name, str) else ""


def _decode(source: Path, split: str) -> tuple[_Coco, list[Finding]]:
    """What the file holds, which may be JSON of the kind that Python's own writer makes of NaN."""
    require_regular(source)
    raw = source.read_bytes()
    try:
        return msgspec.json.decode(raw, type=_Coco), []
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError) as strict:
        try:
            lenient = json.loads(raw)
        except (ValueError, RecursionError):
            raise strict from None
        return msgspec.convert(lenient, type=_Coco), [
            Finding(JSON_LENIENT, split, 1, (f"{source.name}: {strict}",))
        ]


def _ids(entries: list[Any], field: str) -> tuple[Int64[np.ndarray, " entries"], list[int]]:
    """The ids, those in quotes among them, and the rows where one is missing or of another type."""
    values = list(map(attrgetter(field), entries))
    if set(map(type, values)) <= {int}:
        try:
            return np.fromiter(values, np.int64, len(values)), []
        except OverflowError:
            pass
    faults = [row for row, value in enumerate(values) if _whole(value) is None]
    return np.array([_meant(value) for value in values], np.int64), faults


def _whole(value: Loose) -> int | None:
    """The whole number that a value is, also as 7.0; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return int(value) if abs(value) < 2**63 and value == int(value) else None


def _meant(value: Loose) -> int:
    """The id that a value means, also in quotes."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value.strip()) < 19:
        return int(value)
    whole = _whole(value)
    return NO_ID if whole is None else whole


def _sides(images: list[_Image], side: str) -> Int64[np.ndarray, " images"]:
    sides = [_whole(getattr(image, side)) or 0 for image in images]
    return np.array(sides, np.int64).reshape(-1).clip(min=0)


def _boxes(
    annotations: list[_Annotation],
) -> tuple[Float64[np.ndarray, "annotations 4"], Bool[np.ndarray, " annotations"]]:
    """The boxes, infinite where they are larger than any image is, and which are four numbers."""
    stated = list(map(attrgetter("bbox"), annotations))
    numbers = np.ones(len(stated), np.bool_)
    if not all(_is_four_numbers(box) for box in stated):
        numbers = np.array([_is_four_numbers(box) for box in stated])
        stated = [box if right else (np.nan,) * 4 for box, right in zip(stated, numbers, strict=True)]
    boxes = _floats(list(chain.from_iterable(stated))).reshape(-1, 4)
    boxes[np.abs(boxes) >= LARGEST] = np.inf
    return boxes, numbers


def _is_four_numbers(box: Loose) -> bool:
    return isinstance(box, tuple) and len(box) == 4 and all(type(side) in (int, float) for side in box)


def _floats(values: list[Any]) -> Float64[np.ndarray, " values"]:
    """The numbers as floats; whole numbers beyond all floats are infinite."""
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return np.array([value if abs(value) < 2**1023 else np.inf for value in values], np.float64)


def _areas(annotations: list[_Annotation]) -> tuple[Float64[np.ndarray, " annotations"], list[int]]:
    """The areas, and the rows without one."""
    values = list(map(attrgetter("area"), annotations))
    if set(map(type, values)) <= {int, float}:
        return _floats(values), []
    right = [type(value) in (int, float) for value in values]
    areas = [value if one else np.nan for value, one in zip(values, right, strict=True)]
    return _floats(areas), [row for row, one in enumerate(right) if not one]


def _crowds(annotations: list[_Annotation]) -> tuple[Bool[np.ndarray, " annotations"], list[int]]:
    values = list(map(attrgetter("iscrowd"), annotations))
    faults = [
        row for row, value in enumerate(values) if isinstance(value, tuple | dict) or value not in (0, 1)
    ]
    wrong = set(faults)
    return np.array([row not in wrong and bool(value) for row, value in enumerate(values)], np.bool_), faults
