"""Any dataset without its pixels, in columns.

COCO's 860,000 training annotations cost tens of megabytes as NumPy columns and several gigabytes as
Python objects, which every loader worker would copy. All formats are read into this one type.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from detrkit.errors import DetrkitError


class Category(NamedTuple):
    """A class of objects. ``id`` is the dataset's own number for it; inside, its position is its label."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class Catalog:
    """The images, annotations and categories of one split.

    Annotations are sorted by image: those of image ``i`` are rows ``offsets[i]`` to ``offsets[i + 1]``.
    Boxes are ``xyxy`` in pixels of the original image, exactly as the dataset says: not clipped, and
    possibly without area. Labels are positions in ``categories``. Crowds are regions that evaluation
    ignores and training leaves out.
    """

    source: Path
    folder: Path
    categories: tuple[Category, ...]
    image_ids: Int64[np.ndarray, " images"]
    file_names: Shaped[np.ndarray, " images"]
    widths: Int64[np.ndarray, " images"]
    heights: Int64[np.ndarray, " images"]
    offsets: Int64[np.ndarray, " images+1"]
    annotation_ids: Int64[np.ndarray, " annotations"]
    boxes: Float64[np.ndarray, "annotations 4"]
    labels: Int64[np.ndarray, " annotations"]
    areas: Float64[np.ndarray, " annotations"]
    crowds: Bool[np.ndarray, " annotations"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def rows(self, index: int) -> slice:
        """The rows of the annotations of image number ``index``."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def path(self, index: int) -> Path:
        """Where the file of image number ``index`` lies."""
        return self.folder / str(self.file_names[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of image number ``index`` as the dataset states it."""
        return int(self.heights[index]), int(self.widths[index])

    def paths_of(self, image_ids: list[int]) -> list[Path]:
        """Where the files of these images lie, for messages that name them."""
        position = {int(image_id): index for index, image_id in enumerate(self.image_ids)}
        return [self.path(position[image_id]) for image_id in image_ids]


def require_same_categories(found: tuple[Category, ...], expected: tuple[Category, ...], where: str) -> None:
    """Refuse two category lists that give labels different meanings."""
    if found == expected:
        return
    for label, (left, right) in enumerate(zip(found, expected, strict=False)):
        if left != right:
            difference = f"label {label} is {left.id} '{left.name}', not {right.id} '{right.name}'"
            break
    else:
        difference = f"it has {len(found)} categories, not {len(expected)}"
    raise DetrkitError(f"{where}: its categories differ from those expected: {difference}.")
