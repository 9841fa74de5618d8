"""The COCO layout: ``annotations/instances_SPLIT.json``, and the images in ``SPLIT/``.

The format is that of https://cocodataset.org/#format-data, of which only the fields of detection are
read. Everything that would make an annotation mean something else than it says is refused here, with
its id, since further on nothing would notice.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, count
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog, Category
from detrkit.data.formats.cache import cached
from detrkit.data.formats.resized import read_resized
from detrkit.data.formats.shards import find_shards
from detrkit.data.names import column, stays_inside
from detrkit.data.plausible import LARGEST
from detrkit.errors import DetrkitError, shown

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number that a column of 64 bits holds."""


class _Image(msgspec.Struct, gc=False):
    id: Whole
    file_name: str
    width: Whole
    height: Whole


class _Annotation(msgspec.Struct, gc=False):
    image_id: Whole
    category_id: Whole
    bbox: tuple[float, ...]  # the garbage collector lets go of tuples of numbers, and follows lists for ever
    id: Whole | None = None
    area: float | None = None
    iscrowd: bool | Literal[0, 1] = 0


class _Category(msgspec.Struct, gc=False):
    id: Whole
    name: str


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def annotations_file(root: Path, split: str) -> Path:
    """Where the annotations of a split lie."""
    return root / "annotations" / f"instances_{split}.json"


def coco_splits(root: Path) -> list[str]:
    """The names of the splits that have annotations in this layout, sorted; empty for another layout."""
    files = (root / "annotations").glob("instances_*.json")
    return sorted(file.stem.removeprefix("instances_") for file in files)


def read_coco_split(root: Path, split: str) -> Catalog:
    """The catalog of one split of a folder in this layout. Images may be smaller copies, or in shards."""
    catalog = find_shards(read_coco(annotations_file(root, split), root / split))
    resized = read_resized(root)
    return catalog if resized is None else replace(catalog, short_side=resized.short_side)


def read_coco(annotations: Path, folder: Path) -> Catalog:
    """The catalog of a COCO json whose images lie in ``folder``.

    Images keep the file's order, and categories are sorted by id. A missing ``area`` is width times
    height, a missing ``iscrowd`` 0, and annotations without an id are numbered after the largest one.

    Raises:
        DetrkitError: What is missing, or which entry is not what COCO's format says.
    """
    if not annotations.is_file():
        raise DetrkitError(f"the annotations are looked for in {annotations}, but {_nearest(annotations)}.")
    if not folder.is_dir():
        raise DetrkitError(f"the images of {annotations} are looked for in {folder}, but {_nearest(folder)}.")
    return cached(annotations, folder, _parse)


def write_coco(catalog: Catalog, annotations: Path) -> None:
    """Write a COCO json that ``read_coco`` reads back to the same columns."""
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_bytes(encode_coco(catalog))


def encode_coco(catalog: Catalog) -> bytes:
    """The COCO json of a catalog."""
    images = zip(
        catalog.image_ids.tolist(),
        catalog.file_names.tolist(),
        catalog.widths.tolist(),
        catalog.heights.tolist(),
        strict=True,
    )
    sizes = catalog.boxes[:, 2:] - catalog.boxes[:, :2]
    rows = zip(
        np.repeat(catalog.image_ids, np.diff(catalog.offsets)).tolist(),
        np.array([category.id for category in catalog.categories], np.int64)[catalog.labels].tolist(),
        np.concatenate([catalog.boxes[:, :2], sizes], axis=1).tolist(),
        catalog.annotation_ids.tolist(),
        catalog.areas.tolist(),
        catalog.crowds.astype(int).tolist(),
        strict=True,
    )
    content = _Coco(
        images=[_Image(*row) for row in images],
        annotations=[_Annotation(*row) for row in rows],
        categories=[_Category(category.id, category.name) for category in catalog.categories],
    )
    return msgspec.json.encode(content)


def _parse(annotations: Path, folder: Path) -> Catalog:
    content = _decode(annotations)
    categories = _categories(content.categories, annotations)
    image_ids = _image_ids(content.images, annotations)
    return Catalog(
        source=annotations,
        folder=folder,
        categories=categories,
        image_ids=image_ids,
        file_names=_file_names(content.images, annotations),
        widths=_sides(content.images, "width", annotations),
        heights=_sides(content.images, "height", annotations),
        short_side=None,
        **_annotation_columns(content.annotations, image_ids, categories, annotations),
    )


def _decode(source: Path) -> _Coco:
    try:
        return msgspec.json.decode(source.read_bytes(), type=_Coco)
    except msgspec.ValidationError as error:
        raise DetrkitError(
            f"{source} is not in COCO's format: {error}; expected are images (id, file_name, width, height), "
            "annotations (image_id, category_id, bbox) and categories (id, name), with whole numbers as ids."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DetrkitError(
            f"{source} is not JSON ({error}{_excerpt(source, error)}): fetch or export it again."
        ) from None


def _excerpt(source: Path, error: Exception) -> str:
    """What stands at the place that the error names, such as the NaN of a box."""
    place = re.search(r"\(byte (\d+)\)", str(error))
    if place is None:
        return ""
    start = max(0, int(place[1]) - 30)
    return f" in {source.read_bytes()[start : start + 45].decode(errors='replace')!r}"


def _nearest(missing: Path) -> str:
    """What does exist on the way to a missing path."""
    folder = next(parent for parent in missing.absolute().parents if parent.is_dir())
    names = sorted(entry.name for entry in os.scandir(folder))
    listing = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{folder} holds {listing or 'nothing'}"


def _categories(given: list[_Category], source: Path) -> tuple[Category, ...]:
    if not given:
        raise DetrkitError(f"{source} lists no categories: name every class that is annotated.")
    categories = tuple(sorted(Category(category.id, category.name) for category in given))
    _require_unique(_integers(map(attrgetter("id"), categories)), source, "two categories have the id")
    _require_unique_names([category.name for category in categories], source)
    return categories


def _image_ids(images: list[_Image], source: Path) -> Int64[np.ndarray, " images"]:
    if not images:
        raise DetrkitError(f"{source} lists no images: is it the file of the split that was meant?")
    image_ids = _integers(map(attrgetter("id"), images))
    _require_unique(image_ids, source, "two images have the id")
    return image_ids


def _file_names(images: list[_Image], source: Path) -> np.ndarray:
    for image in images:
        if not stays_inside(image.file_name):
            raise DetrkitError(
                f"{source}: image {image.id} has the file_name {shown(image.file_name)}, but a path inside "
                "the images' folder is expected: write it relative to that folder."
            )
    return column([image.file_name for image in images], source, source.stat().st_size)


def _sides(
    images: list[_Image], side: Literal["width", "height"], source: Path
) -> Int64[np.ndarray, " images"]:
    sides = _integers(map(attrgetter(side), images))
    _require(
        sides > 0,
        source,
        lambda row: f"image {images[row].id} has the {side} {sides[row]}, but at least 1 pixel is expected",
    )
    return sides


def _annotation_columns(
    given: list[_Annotation],
    image_ids: Int64[np.ndarray, " images"],
    categories: tuple[Category, ...],
    source: Path,
) -> dict[str, Any]:
    ids = _annotation_ids(given, source)
    boxes, areas = _boxes_and_areas(given, ids, source)
    labels = _labels(given, ids, categories, source)
    images = _images_of(given, ids, image_ids, source)
    crowds = np.fromiter(map(attrgetter("iscrowd"), given), np.bool_, len(given))
    order = np.argsort(images, kind="stable")
    return {
        "offsets": np.searchsorted(images[order], np.arange(len(image_ids) + 1)),
        "annotation_ids": ids[order],
        "boxes": boxes[order],
        "labels": labels[order],
        "areas": areas[order],
        "crowds": crowds[order],
    }


def _annotation_ids(given: list[_Annotation], source: Path) -> Int64[np.ndarray, " annotations"]:
    stated = list(map(attrgetter("id"), given))
    if None in stated:
        following = count(1 + max((one for one in stated if one is not None), default=0))
        stated = [next(following) if one is None else one for one in stated]
        if max(stated) >= 2**63:
            raise DetrkitError(
                f"{source}: annotations without an id are numbered after the largest one, which leaves none "
                f"up to {2**63 - 1}; give every annotation an id."
            )
    ids = _integers(stated)
    _require_unique(ids, source, "two annotations have the id")
    return ids


def _boxes_and_areas(
    given: list[_Annotation], ids: Int64[np.ndarray, " annotations"], source: Path
) -> tuple[Float64[np.ndarray, "annotations 4"], Float64[np.ndarray, " annotations"]]:
    def complaint(row: int) -> str:
        return (
            f"annotation {ids[row]} has the bbox {shown(list(stated[row]))}, but four finite numbers are "
            f"expected, pixels below {LARGEST:,}"
        )

    stated = list(map(attrgetter("bbox"), given))
    _require(np.fromiter(map(len, stated), np.int64, len(stated)) == 4, source, complaint)
    boxes = np.fromiter(chain.from_iterable(stated), np.float64, 4 * len(stated)).reshape(-1, 4)
    _require(np.abs(boxes).max(axis=1, initial=0) < LARGEST, source, complaint)
    areas = np.array(list(map(attrgetter("area"), given)), np.float64)  # None is not a number
    areas = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    _require(
        np.abs(areas) < LARGEST**2,
        source,
        lambda row: f"annotation {ids[row]} has the area {areas[row]:g}, which no image has",
    )
    boxes[:, 2:] += boxes[:, :2]
    return boxes, areas


def _labels(
    given: list[_Annotation],
    ids: Int64[np.ndarray, " annotations"],
    categories: tuple[Category, ...],
    source: Path,
) -> Int64[np.ndarray, " annotations"]:
    labels = _positions(
        _integers(map(attrgetter("category_id"), given)), _integers(map(attrgetter("id"), categories))
    )
    _require(
        labels >= 0,
        source,
        lambda row: (
            f"annotation {ids[row]} has the category_id {given[row].category_id}, which is none of its "
            f"{len(categories)} categories with ids from {categories[0].id} to {categories[-1].id}"
        ),
    )
    return labels


def _images_of(
    given: list[_Annotation],
    ids: Int64[np.ndarray, " annotations"],
    image_ids: Int64[np.ndarray, " images"],
    source: Path,
) -> Int64[np.ndarray, " annotations"]:
    images = _positions(_integers(map(attrgetter("image_id"), given)), image_ids)
    _require(
        images >= 0,
        source,
        lambda row: (
            f"annotation {ids[row]} has the image_id {given[row].image_id}, which is none of the "
            f"{len(image_ids)} images that are listed"
        ),
    )
    return images


def _integers(values: Iterable[int]) -> Int64[np.ndarray, " values"]:
    return np.fromiter(values, np.int64)


def _positions(
    wanted: Int64[np.ndarray, " wanted"], ids: Int64[np.ndarray, " ids"]
) -> Int64[np.ndarray, " wanted"]:
    """Where each wanted id stands among ``ids``, or -1."""
    order = np.argsort(ids)
    found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)


def _require(right: Bool[np.ndarray, " rows"], source: Path, complaint: Callable[[int], str]) -> None:
    """Complain about the first row that is not right."""
    if not right.all():
        raise DetrkitError(f"{source}: {complaint(int(np.argmin(right)))}; correct that entry.")


def _require_unique(ids: Int64[np.ndarray, " ids"], source: Path, complaint: str) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise _not_unique(source, complaint, str(unique[np.argmax(counts > 1)]))


def _require_unique_names(names: list[str], source: Path) -> None:
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise _not_unique(source, "two categories have the name", name[:100])


def _not_unique(source: Path, complaint: str, twice: str) -> DetrkitError:
    return DetrkitError(f"{source}: {complaint} {twice}, but it must be unique; correct one of them.")
