"""A split as its files state it, right or wrong: what a Catalog would refuse can be said here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog, Category

NO_ID = -(2**63)
"""Stands for an id that is missing or no whole number."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The images, annotations and categories of one split, each in the order of its file.

    Boxes are COCO's ``[x, y, width, height]``: all four NaN where the file has no four numbers, and NaN or
    infinite where it says so, for which ``numbers`` is true. ``owners`` and ``labels`` are rows of images
    and of categories, or -1 where none has the id. Sides are 0, areas NaN and ids ``NO_ID`` where they are
    not what the format says.
    """

    split: str
    source: Path
    folder: Path
    categories: tuple[Category, ...]
    image_ids: Int64[np.ndarray, " images"]
    file_names: list[str]
    widths: Int64[np.ndarray, " images"]
    heights: Int64[np.ndarray, " images"]
    annotation_ids: Int64[np.ndarray, " annotations"]
    owners: Int64[np.ndarray, " annotations"]
    labels: Int64[np.ndarray, " annotations"]
    boxes: Float64[np.ndarray, "annotations 4"]
    numbers: Bool[np.ndarray, " annotations"]
    areas: Float64[np.ndarray, " annotations"]
    crowds: Bool[np.ndarray, " annotations"]

    def annotation(self, row: int) -> str:
        """How messages name an annotation."""
        number, owner = int(self.annotation_ids[row]), int(self.owners[row])
        name = f"annotation {number}" if number != NO_ID else f"annotation in place {row + 1}"
        return name if owner < 0 else f"{name} of {self.image(owner)}"

    def image(self, row: int) -> str:
        """How messages name an image."""
        number = int(self.image_ids[row])
        return self.file_names[row][:200] or (
            f"image {number}" if number != NO_ID else f"image in place {row + 1}"
        )

    def box(self, row: int) -> str:
        """How messages name an annotation and its box."""
        return f"{self.annotation(row)}: [{', '.join(f'{side:g}' for side in self.boxes[row])}]"

    def sizes(self) -> Float64[np.ndarray, "annotations 2"]:
        """(width, height) of the image of each annotation; NaN where that is not known."""
        known = np.stack([self.widths, self.heights], axis=1).astype(np.float64)
        known[known < 1] = np.nan
        if not len(known):
            return np.full((len(self.owners), 2), np.nan)
        return np.where(self.owners[:, None] >= 0, known[self.owners], np.nan)

    def objects(self) -> Int64[np.ndarray, " images"]:
        """How many annotations each image has that are no crowds."""
        chosen = self.owners[(self.owners >= 0) & ~self.crowds]
        return np.bincount(chosen, minlength=len(self.image_ids)).astype(np.int64)


def listing_of(catalog: Catalog, split: str) -> Listing:
    """A catalog as a listing, in which every row is what the format says."""
    boxes = catalog.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return Listing(
        split=split,
        source=catalog.source,
        folder=catalog.folder,
        categories=catalog.categories,
        image_ids=catalog.image_ids,
        file_names=catalog.file_names.tolist(),
        widths=catalog.widths,
        heights=catalog.heights,
        annotation_ids=catalog.annotation_ids,
        owners=np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets)),
        labels=catalog.labels,
        boxes=boxes,
        numbers=np.ones(len(boxes), np.bool_),
        areas=catalog.areas,
        crowds=catalog.crowds,
    )


def positions(
    wanted: Int64[np.ndarray, " wanted"], ids: Int64[np.ndarray, " ids"]
) -> Int64[np.ndarray, " wanted"]:
    """The first row of ``ids`` that holds each wanted id, or -1."""
    if not len(ids):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(ids, kind="stable")
    found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where((ids[found] == wanted) & (wanted != NO_ID), found, -1).astype(np.int64)


def repeats(values: np.ndarray) -> Bool[np.ndarray, " values"]:
    """Which values stood earlier already."""
    _, first = np.unique(values, return_index=True)
    again = np.ones(len(values), np.bool_)
    again[first] = False
    return again


def repeated_names(names: list[str]) -> Bool[np.ndarray, " names"]:
    """Which names stood earlier already. A column of them would be as wide as the longest."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(name, row) != row for row, name in enumerate(names)], np.bool_)
