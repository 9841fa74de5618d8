"""What a dataset is made of, and the settings that this suggests.

Objects are annotations that are no crowds. Small, medium and large are COCO's: areas below 32^2, below 96^2
and from there on, of the ``area`` that evaluation goes by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog

SMALL, LARGE = 32.0**2, 96.0**2
"""Areas in pixels from which objects are medium and large."""

CELL = 32
"""Pixels of the resized image on a side of one cell of a ResNet's last feature map; 16 with DC5."""

LEAST_SHARE = 0.01
"""Below this share of small objects, the smallest tenth of all objects stands for them."""


@dataclass(frozen=True, eq=False)
class SplitStatistics:
    """The figures of one split. Arrays of objects are in the catalog's order, without crowds."""

    images: int
    annotations: int
    crowds: int
    names: tuple[str, ...]
    """Names of the classes; a position is a label."""
    objects_of_class: Int64[np.ndarray, " classes"]
    images_of_class: Int64[np.ndarray, " classes"]
    objects_of_image: Int64[np.ndarray, " images"]
    areas: Float64[np.ndarray, " objects"]
    aspects: Float64[np.ndarray, " visible"]
    """Width over height of the objects whose box has both."""
    centres: Float64[np.ndarray, "objects 2"]
    """Centres of boxes as fractions of their image."""
    scaled_sides: Float64[np.ndarray, " objects"]
    """The root of a box's area, as a fraction of its image's shorter side."""

    @property
    def objects(self) -> int:
        """The number of annotations that are no crowds."""
        return self.annotations - self.crowds

    @property
    def empty_images(self) -> int:
        """The number of images without objects."""
        return int((self.objects_of_image == 0).sum())

    @property
    def small(self) -> Bool[np.ndarray, " objects"]:
        """Which objects are small."""
        return self.areas < SMALL

    def by_size(self) -> tuple[int, int, int]:
        """The numbers of small, medium and large objects."""
        small, large = int(self.small.sum()), int((self.areas >= LARGE).sum())
        return small, len(self.areas) - small - large, large


@dataclass(frozen=True)
class Suggestion:
    """A setting with the value that the figures speak for, and why."""

    setting: str
    value: int
    reason: str


def statistics_of(catalog: Catalog) -> SplitStatistics:
    """The figures of one split."""
    single = ~catalog.crowds
    owners = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))[single]
    labels, boxes = catalog.labels[single], catalog.boxes[single]
    image_sizes = np.stack([catalog.widths, catalog.heights], axis=1).astype(np.float64)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    visible = (sizes > 0).all(axis=1)
    shorter = image_sizes.min(axis=1)
    classes = len(catalog.categories)
    pairs = np.unique(owners * classes + labels)
    return SplitStatistics(
        images=len(catalog),
        annotations=len(catalog.labels),
        crowds=int(catalog.crowds.sum()),
        names=tuple(category.name for category in catalog.categories),
        objects_of_class=np.bincount(labels, minlength=classes),
        images_of_class=np.bincount(pairs % classes, minlength=classes),
        objects_of_image=np.bincount(owners, minlength=len(catalog)),
        areas=catalog.areas[single],
        aspects=sizes[visible, 0] / sizes[visible, 1],
        centres=(boxes[:, :2] + boxes[:, 2:]) / 2 / image_sizes[owners],
        scaled_sides=np.sqrt(sizes.prod(axis=1)) / shorter[owners],
    )


def co_occurrence(catalog: Catalog, labels: list[int]) -> Int64[np.ndarray, "chosen chosen"]:
    """In how many images objects of two of these classes meet; the diagonal has the images of each."""
    single = ~catalog.crowds
    owners = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))[single]
    present = np.zeros((len(catalog), len(catalog.categories)), np.bool_)
    present[owners, catalog.labels[single]] = True
    chosen = present[:, labels].astype(np.float64)
    return np.rint(chosen.T @ chosen).astype(np.int64)


def suggest(splits: Mapping[str, SplitStatistics], training: str) -> list[Suggestion]:
    """Settings that the figures speak for; the size of images by the objects of the ``training`` split."""
    most, split = max((int(one.objects_of_image.max(initial=0)), name) for name, one in splits.items())
    queries = max(50, 25 * ceil(1.5 * most / 25))
    found = [
        Suggestion(
            "model.decoder.queries",
            queries,
            f"the fullest image, of {split}, has {most:,} objects; half as many again leave it room"
            + (", and the default of 100 is no less" if queries <= 100 else ""),
        )
    ]
    return found + _suggest_size(splits[training])


def _suggest_size(split: SplitStatistics) -> list[Suggestion]:
    """The shorter side at which the median small object covers a cell, within DETR's own sizes."""
    chosen, kind = split.small & (split.scaled_sides > 0), "median small object"
    if chosen.sum() < max(1, LEAST_SHARE * split.objects):
        visible = split.scaled_sides > 0
        if not visible.any():
            return []
        chosen = visible & (split.scaled_sides <= np.quantile(split.scaled_sides[visible], 0.1))
        kind = "median of the smallest tenth of objects"
    side = float(np.median(split.scaled_sides[chosen]))
    wanted = CELL * ceil(CELL / side / CELL)
    value = min(max(wanted, 480), 1088)
    reason = f"there the {kind} is {side * value:.0f} pixels on a side, and a feature cell {CELL}"
    if value < wanted:
        reason += (
            f"; to cover a cell it would take {wanted:,}: cut the images into tiles, or take a DC5 recipe"
        )
    return [Suggestion("data.short_sides", value, reason)]
