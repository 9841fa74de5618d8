"""What a recipe's views do to the objects of a split, counted over many images without opening a file."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.order import Key
from detrkit.data.transforms import training_transform
from detrkit.data.views import View
from detrkit.settings.data import DataSettings

_CUT = 1.0
"""Pixels of the stored image by which a crop must shorten a box to count: crops end between pixels."""

WHOLE = 0.9999
"""From this share of an image on, a view shows all of it."""


class Seen(NamedTuple):
    """The objects of an image that training may see, and what one view shows of them."""

    annotations: Int64[np.ndarray, " objects"]
    """Their rows in the catalog, without crowds and boxes that have no area in the image."""
    sides: Float64[np.ndarray, "objects 2"]
    """Width and height of what the view shows of them, in its pixels."""
    shown: Bool[np.ndarray, " objects"]
    """Whether anything of them is shown."""
    cut: Bool[np.ndarray, " objects"]
    """Whether they are shown in part only."""


class Smallest(NamedTuple):
    """The object with the least area in its view, of those that are shown whole."""

    annotation: int
    image: int
    epoch: int
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Facts:
    """Figures of ``images`` images, each in its views of the first epochs."""

    images: int
    shorter_sides: Int64[np.ndarray, " views"]
    """Of the views, in pixels."""
    longer_sides: Int64[np.ndarray, " views"]
    parts: Float64[np.ndarray, " views"]
    """Which share of its image each view shows."""
    cut: int
    """Number of objects, one in several views counted so often, that their view shows in part."""
    outside: int
    """Number of objects that their view does not show."""
    roots: Float64[np.ndarray, " shown"]
    """The root of the area that objects have in their view, in its pixels."""
    smallest: Smallest | None
    """None if no view shows a whole object."""

    @property
    def objects(self) -> int:
        """The number of objects, one in several views counted so often, whether shown or not."""
        return len(self.roots) + self.outside


def seen(catalog: Catalog, index: int, view: View) -> Seen:
    """What a view shows of the objects of image number ``index``."""
    height, width = catalog.size(index)
    rows = catalog.rows(index)
    boxes = catalog.boxes[rows].clip(0, [width, height, width, height]).astype(np.float32)
    trained = ~catalog.crowds[rows] & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    annotations, boxes = np.arange(rows.start, rows.stop)[trained], boxes[trained]
    left, top, right, bottom = view.part
    inside = boxes.clip([left, top, left, top], [right, bottom, right, bottom])
    scale = view.size[1] / (right - left), view.size[0] / (bottom - top)
    shown = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    shortened = np.abs(inside - boxes).max(axis=1, initial=0) > _CUT
    return Seen(annotations, (inside[:, 2:] - inside[:, :2]) * scale, shown, shown & shortened)


def count_facts(
    catalog: Catalog, settings: DataSettings, seed: int, indices: list[int], num_epochs: int
) -> Facts:
    """The figures of these images in the views of the first ``num_epochs`` epochs of a training."""
    dataset = SplitDataset(catalog, training_transform(settings), seed)
    keys = [(epoch, index) for index in indices for epoch in range(num_epochs)]
    views = [dataset.view(key) for key in keys]
    found = [seen(catalog, index, view) for (_, index), view in zip(keys, views, strict=True)]
    return Facts(
        images=len(indices),
        shorter_sides=np.array([min(view.size) for view in views]),
        longer_sides=np.array([max(view.size) for view in views]),
        parts=np.array([part_of(catalog, key[1], view) for key, view in zip(keys, views, strict=True)]),
        cut=sum(int(one.cut.sum()) for one in found),
        outside=sum(int((~one.shown).sum()) for one in found),
        roots=np.concatenate([np.sqrt(one.sides[one.shown].prod(axis=1)) for one in found]),
        smallest=_smallest(keys, found),
    )


def part_of(catalog: Catalog, index: int, view: View) -> float:
    """The share of its image that a view shows."""
    (height, width), (left, top, right, bottom) = catalog.size(index), view.part
    return (right - left) * (bottom - top) / (height * width)


def describe_facts(facts: Facts, catalog: Catalog, settings: DataSettings, cell: int) -> list[str]:
    """Sentences on the sizes of images, on what crops leave of objects, and on small objects.

    ``cell`` is how many pixels on a side a cell of the finest feature map stands for.
    """
    sentences = [
        f"Images: in training, shorter sides of {_span(facts.shorter_sides)} and longer ones of "
        f"{_span(facts.longer_sides)} pixels; in evaluation, a shorter side of "
        f"{settings.eval_short_side:,} and a longer one of at most {settings.max_size:,}."
    ]
    cropped = facts.parts[facts.parts < WHOLE]
    if not len(cropped):
        sentences.append("Crops: none; every view shows all of its image.")
    else:
        objects = max(facts.objects, 1)
        sentences.append(
            f"Crops: {len(cropped) / len(facts.parts):.0%} of the views are cropped, to "
            f"{np.median(cropped):.0%} of the image in the median. Of all objects, views leave out "
            f"{facts.outside / objects:.0%} and cut {facts.cut / objects:.0%}."
        )
    if facts.smallest is None:
        return [*sentences, "Objects: no view shows a whole one."]
    return [*sentences, _describe_small(facts.roots, facts.smallest, catalog, cell)]


def _describe_small(
    roots: Float64[np.ndarray, " shown"], smallest: Smallest, catalog: Catalog, cell: int
) -> str:
    category = catalog.categories[int(catalog.labels[smallest.annotation])].name
    return (
        f"Small objects: {(roots < cell).mean():.0%} have less area than the {cell} x {cell} pixels of a "
        f"feature cell; the smallest is {smallest.width:.3g} x {smallest.height:.3g} pixels: annotation "
        f"{catalog.annotation_ids[smallest.annotation]} ({category}) of "
        f"{catalog.file_names[smallest.image]} in epoch {smallest.epoch}."
    )


def _smallest(keys: list[Key], found: list[Seen]) -> Smallest | None:
    areas = [np.where(one.shown & ~one.cut, one.sides.prod(axis=1), np.inf) for one in found]
    least = [one.min(initial=np.inf) for one in areas]
    place = int(np.argmin(least))
    if np.isinf(least[place]):
        return None
    (epoch, index), row = keys[place], int(np.argmin(areas[place]))
    width, height = found[place].sides[row].tolist()
    return Smallest(int(found[place].annotations[row]), index, epoch, width, height)


def _span(sides: Int64[np.ndarray, " views"]) -> str:
    low, high = int(sides.min()), int(sides.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
