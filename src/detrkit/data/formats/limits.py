"""What each layout cannot say of a catalog: the catalog as it will come back, and what changed.

COCO's layout says all that a catalog holds. Pascal VOC has whole pixels, and names where others have ids.
YOLO has boxes within their image, and neither ids nor crowds. Neither of the two has areas.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import Layout
from detrkit.errors import DetrkitError

_NO_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""Characters that XML cannot hold, or does not give back."""


class Limited(NamedTuple):
    """The splits as they will come back, but for ids, and a line for each kind of change, with its count."""

    catalogs: dict[str, Catalog]
    changes: list[str]


def limit(catalogs: Mapping[str, Catalog], layout: Layout) -> Limited:
    """What a layout can say of the splits of a dataset, which have the same categories.

    Raises:
        DetrkitError: The layout cannot hold the dataset at all: the name of a class, or no objects.
    """
    counts: Counter[str] = Counter()
    match layout:
        case "coco":
            return Limited(dict(catalogs), [])
        case "voc":
            limited = {split: _limit_to_voc(catalog, counts) for split, catalog in catalogs.items()}
            _count_unused_classes(limited, counts)
        case "yolo":
            limited = {split: _limit_to_yolo(catalog, counts) for split, catalog in catalogs.items()}
        case unknown:
            assert_never(unknown)
    changes = [f"{what}: {number:,}" for what, number in counts.items() if number]
    return Limited(limited, [*changes, "ids of images, objects and classes: counted anew"])


def _limit_to_voc(catalog: Catalog, counts: Counter[str]) -> Catalog:
    _require_xml_names(catalog)
    kept = _sizes(catalog.boxes).min(axis=1) > 0
    whole = np.rint(catalog.boxes)
    tiny = (_sizes(whole) < 1) & kept[:, None]
    first = np.floor((catalog.boxes[:, :2] + catalog.boxes[:, 2:]) / 2)
    whole[:, :2] = np.where(tiny, first, whole[:, :2])
    whole[:, 2:] = np.where(tiny, first + 1, whole[:, 2:])
    counts["boxes without area, left out"] += int((~kept).sum())
    counts["boxes rounded to whole pixels"] += int(_differ(whole, catalog.boxes)[kept].sum())
    counts["boxes narrower than a pixel, widened to one"] += int(tiny.any(axis=1).sum())
    counts["areas other than their box's, left out"] += int(_has_own_area(catalog)[kept].sum())
    return _with_boxes(catalog, whole, kept)


def _limit_to_yolo(catalog: Catalog, counts: Counter[str]) -> Catalog:
    limits = np.repeat(
        np.stack([catalog.widths, catalog.heights] * 2, axis=1), np.diff(catalog.offsets), axis=0
    )
    inside = np.concatenate(
        [catalog.boxes[:, :2].clip(min=0), np.minimum(catalog.boxes[:, 2:], limits[:, 2:])], axis=1
    )
    somewhere = _sizes(inside).min(axis=1) >= 0
    kept = somewhere & ~catalog.crowds
    cut = _differ(inside, catalog.boxes)
    counts["crowds (in VOC: difficult objects), left out"] += int(catalog.crowds.sum())
    counts["boxes outside their image or with corners in the wrong order, left out"] += int(
        (~somewhere & ~catalog.crowds).sum()
    )
    counts["boxes cut at the border of their image"] += int((cut & kept).sum())
    counts["areas other than their box's, left out"] += int(_has_own_area(catalog)[kept].sum())
    return _with_boxes(catalog, inside, kept)


def _with_boxes(
    catalog: Catalog, boxes: Float64[np.ndarray, "annotations 4"], kept: Bool[np.ndarray, " annotations"]
) -> Catalog:
    """The catalog with the annotations that are kept, each with its new box and the area of that."""
    before: Int64[np.ndarray, " annotations+1"] = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    return replace(
        catalog,
        offsets=before[catalog.offsets],
        annotation_ids=catalog.annotation_ids[kept],
        boxes=boxes[kept],
        labels=catalog.labels[kept],
        areas=_sizes(boxes[kept]).prod(axis=1),
        crowds=catalog.crowds[kept],
    )


def _require_xml_names(catalog: Catalog) -> None:
    for category in catalog.categories:
        if category.name != category.name.strip() or not category.name or _NO_XML.search(category.name):
            raise DetrkitError(
                f"{catalog.source} has a class with the name {category.name!r}, but Pascal VOC needs a text "
                "without control characters, and without spaces at its ends: rename the class."
            )


def _count_unused_classes(catalogs: Mapping[str, Catalog], counts: Counter[str]) -> None:
    first = next(iter(catalogs.values()))
    used = np.unique(np.concatenate([catalog.labels for catalog in catalogs.values()]))
    if not len(used):
        raise DetrkitError(
            f"{first.source}: no split has an object that Pascal VOC can say, but its classes are known by "
            "their objects alone: choose splits that have some."
        )
    counts["classes without objects, left out"] += len(first.categories) - len(used)


def _differ(
    boxes: Float64[np.ndarray, "annotations 4"], others: Float64[np.ndarray, "annotations 4"]
) -> Bool[np.ndarray, " annotations"]:
    """Where boxes differ by more than what arithmetic leaves."""
    return np.greater(np.abs(boxes - others).max(axis=1), 1e-6)


def _has_own_area(catalog: Catalog) -> Bool[np.ndarray, " annotations"]:
    areas = _sizes(catalog.boxes).prod(axis=1)
    return np.greater(np.abs(catalog.areas - areas), 1e-6 * np.maximum(1, areas))


def _sizes(boxes: Float64[np.ndarray, "annotations 4"]) -> Float64[np.ndarray, "annotations 2"]:
    return boxes[:, 2:] - boxes[:, :2]
