"""A smaller catalog: some of the images, or the objects of some classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from detrkit.catalog import Catalog
from detrkit.data.stratify import random_parts, stratified_parts
from detrkit.errors import DetrkitError
from detrkit.settings.section import did_you_mean


def take_images(catalog: Catalog, chosen: Int64[np.ndarray, " chosen"]) -> Catalog:
    """The catalog of the images at these positions, in this order, with all their annotations."""
    counts = np.diff(catalog.offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.repeat(catalog.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
    return replace(
        _with_annotations(catalog, rows),
        image_ids=catalog.image_ids[chosen],
        file_names=catalog.file_names[chosen],
        widths=catalog.widths[chosen],
        heights=catalog.heights[chosen],
        offsets=offsets,
    )


def keep_annotations(catalog: Catalog, kept: Bool[np.ndarray, " annotations"]) -> Catalog:
    """The catalog of all images with the annotations that are kept."""
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return replace(_with_annotations(catalog, np.flatnonzero(kept)), offsets=before[catalog.offsets])


def keep_objects_of(catalog: Catalog, names: Sequence[str]) -> Catalog:
    """The catalog of all images and categories with the annotations of these classes, crowds too."""
    wanted = np.array([category.name in names for category in catalog.categories])
    return keep_annotations(catalog, wanted[catalog.labels])


def keep_categories(catalog: Catalog, names: Sequence[str]) -> Catalog:
    """The catalog with these categories alone, which have their ids, and all annotations are of them."""
    kept = np.array([category.name in names for category in catalog.categories])
    return replace(
        catalog,
        categories=tuple(category for category in catalog.categories if category.name in names),
        labels=(np.cumsum(kept) - 1)[catalog.labels],
    )


def drop_empty_images(catalog: Catalog) -> Catalog:
    """The catalog of the images that have annotations."""
    return take_images(catalog, np.flatnonzero(np.diff(catalog.offsets)))


def draw_images(catalog: Catalog, number: int, seed: int, *, stratified: bool) -> Catalog:
    """The catalog of that many of its images, in its order; ``stratified`` keeps the shares of classes."""
    sizes = (number, len(catalog) - number)
    parts = stratified_parts(catalog, sizes, seed) if stratified else random_parts(len(catalog), sizes, seed)
    return take_images(catalog, np.flatnonzero(parts == 0))


def require_classes(catalog: Catalog, names: Sequence[str]) -> None:
    """Raise a DetrkitError unless all of these are classes of the catalog."""
    known = [category.name for category in catalog.categories]
    for name in names:
        if name not in known:
            raise DetrkitError(
                f"{catalog.source} has no class '{name}', but {_some(known)}{did_you_mean(name, known)}"
            )


def _with_annotations(catalog: Catalog, rows: Int64[np.ndarray, " rows"]) -> Catalog:
    return replace(
        catalog,
        annotation_ids=catalog.annotation_ids[rows],
        boxes=catalog.boxes[rows],
        labels=catalog.labels[rows],
        areas=catalog.areas[rows],
        crowds=catalog.crowds[rows],
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
