"""A dataset without a download: coloured shapes on smooth noise, in COCO's layout.

It is made for seeing in minutes whether a detector learns, so it keeps what makes detection hard in
small: several objects, sizes from small to large, occlusion, and classes that no colour gives away.
Every image is a function of (seed, split, index) alone.
"""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tomli_w
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageDraw
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from detrkit.catalog import Catalog, Category
from detrkit.data.formats.coco import annotations_file, write_coco
from detrkit.errors import DetrkitError
from detrkit.settings.section import Section

Kind = Literal["rectangle", "ellipse", "triangle", "diamond"]
Split = Literal["train", "val"]
Box = tuple[int, int, int, int]

KINDS: tuple[Kind, ...] = ("rectangle", "ellipse", "triangle", "diamond")
"""The classes; the category id of a kind is its position here plus 1."""

SETTINGS_FILE = "shapes.toml"
"""Stands beside the images and is written last: where it is, the dataset is complete."""


class ShapesSettings(Section):
    """What the dataset of shapes holds."""

    train_images: PositiveInt = 2000
    """Images of the split `train`."""
    val_images: PositiveInt = 200
    """Images of the split `val`."""
    image_size: PositiveInt = 128
    """Width and height of an image, in pixels."""
    num_shapes: tuple[NonNegativeInt, NonNegativeInt] = (1, 5)
    """Fewest and most shapes of an image."""
    sides: tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]] = (14, 60)
    """Smallest and largest width, and height, of a shape, in pixels; both are drawn independently."""
    overlap: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest part of the smaller of two boxes that both share."""
    contrast: Annotated[float, Field(ge=0, le=180)] = 80
    """Smallest distance, in RGB values of 0..255, of a shape's colour from the mean colour that it covers."""
    background_cell: PositiveInt = 16
    """Pixels between the random colours that the background is interpolated from; more is smoother."""
    background_range: Annotated[int, Field(ge=0, le=255)] = 128
    """Width of the range of those colours in each of R, G and B, around a colour of the image's own."""
    seed: NonNegativeInt = 0
    """Decides all images."""

    @model_validator(mode="after")
    def _check(self) -> "ShapesSettings":
        for name, (low, high) in (("num_shapes", self.num_shapes), ("sides", self.sides)):
            if low > high:
                raise ValueError(f"{name} is {low, high}, but the smaller value must come first")
        if self.sides[1] > self.image_size:
            raise ValueError(f"sides reach {self.sides[1]}, above image_size ({self.image_size})")
        return self


class ShapesImage(NamedTuple):
    """One image. ``masks`` are all pixels of each shape, also those that a later shape covers."""

    pixels: UInt8[np.ndarray, "size size 3"]
    masks: Bool[np.ndarray, "shapes size size"]
    labels: Int64[np.ndarray, " shapes"]


def write_shapes(root: Path, settings: ShapesSettings) -> bool:
    """Whether the splits ``train`` and ``val`` had to be written to ``root``, or were there already.

    Raises:
        DetrkitError: ``root`` holds something else.
    """
    if _is_complete(root, settings):
        return False
    _write_split(root, settings, "train", settings.train_images)
    _write_split(root, settings, "val", settings.val_images)
    (root / SETTINGS_FILE).write_bytes(_to_toml(settings))
    return True


def shapes_image(settings: ShapesSettings, split: Split, index: int) -> ShapesImage:
    """Image number ``index`` of a split."""
    random = np.random.default_rng([settings.seed, ("train", "val").index(split), index])
    size = settings.image_size
    boxes = _arrange(random, settings)
    labels = random.integers(len(KINDS), size=len(boxes))
    masks = np.zeros((len(boxes), size, size), np.bool_)
    pixels = _background(random, settings)
    for mask, box, label in zip(masks, boxes, labels, strict=True):
        mask[:] = _mask(KINDS[label], box, size)
        pixels[mask] = _colour(random, pixels[mask].mean(axis=0), settings.contrast)
    return ShapesImage(pixels, masks, labels)


def _is_complete(root: Path, settings: ShapesSettings) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    written = root / SETTINGS_FILE
    if not written.is_file():
        held = "something else, or shapes that were not finished"
    elif written.read_bytes() != _to_toml(settings):
        held = "shapes of other settings"
    else:
        return True
    raise DetrkitError(f"{root} holds {held}: name another folder, or remove this one.")


def _to_toml(settings: ShapesSettings) -> bytes:
    return tomli_w.dumps(settings.model_dump(mode="json")).encode()


def _write_split(root: Path, settings: ShapesSettings, split: Split, num_images: int) -> None:
    folder = root / split
    folder.mkdir(parents=True)
    names = [f"{index:06d}.png" for index in range(num_images)]
    shapes: list[_Shape] = []
    for index, name in enumerate(names):
        image = shapes_image(settings, split, index)
        Image.fromarray(image.pixels).save(folder / name, compress_level=1)
        shapes += [
            _Shape(index, int(label), _tight_box(mask), int(mask.sum()))
            for label, mask in zip(image.labels, image.masks, strict=True)
        ]
    write_coco(_catalog(settings, folder, names, shapes), annotations_file(root, split))


class _Shape(NamedTuple):
    image: int
    label: int
    box: Box
    area: int


def _catalog(settings: ShapesSettings, folder: Path, names: list[str], shapes: list[_Shape]) -> Catalog:
    sizes = np.full(len(names), settings.image_size)
    return Catalog(
        source=folder,
        folder=folder,
        categories=tuple(Category(number, kind) for number, kind in enumerate(KINDS, start=1)),
        image_ids=np.arange(1, len(names) + 1),
        file_names=np.array(names),
        widths=sizes,
        heights=sizes,
        offsets=np.searchsorted([shape.image for shape in shapes], np.arange(len(names) + 1)),
        annotation_ids=np.arange(1, len(shapes) + 1),
        boxes=np.array([shape.box for shape in shapes], np.float64).reshape(-1, 4),
        labels=np.array([shape.label for shape in shapes], np.int64),
        areas=np.array([shape.area for shape in shapes], np.float64),
        crowds=np.zeros(len(shapes), np.bool_),
    )


def _arrange(random: np.random.Generator, settings: ShapesSettings) -> list[Box]:
    """Boxes that overlap no more than allowed; a crowded start is given up as a whole, not thinned out."""
    num_shapes = int(random.integers(*settings.num_shapes, endpoint=True))
    for _ in range(100):
        boxes = _place(random, settings, num_shapes)
        if len(boxes) == num_shapes:
            return boxes
    raise DetrkitError(
        f"{num_shapes} shapes with sides from {settings.sides[0]} pixels find no room in an image_size of "
        f"{settings.image_size}: lower num_shapes or sides, or raise overlap or image_size."
    )


def _place(random: np.random.Generator, settings: ShapesSettings, num_shapes: int) -> list[Box]:
    boxes: list[Box] = []
    for _ in range(20 * num_shapes):
        box = _random_box(random, settings)
        if all(_shared(box, other) <= settings.overlap for other in boxes):
            boxes.append(box)
        if len(boxes) == num_shapes:
            break
    return boxes


def _random_box(random: np.random.Generator, settings: ShapesSettings) -> Box:
    width, height = random.integers(*settings.sides, size=2, endpoint=True).tolist()
    left = int(random.integers(settings.image_size - width, endpoint=True))
    top = int(random.integers(settings.image_size - height, endpoint=True))
    return left, top, left + width, top + height


def _shared(a: Box, b: Box) -> float:
    """The part of the smaller of two boxes that lies in both."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller


def _background(random: np.random.Generator, settings: ShapesSettings) -> UInt8[np.ndarray, "size size 3"]:
    cells = settings.image_size // settings.background_cell + 1
    darkest = random.integers(255 - settings.background_range, size=3, endpoint=True)
    noise = random.integers(settings.background_range, size=(cells, cells, 3), endpoint=True)
    size = (settings.image_size, settings.image_size)
    cells_image = Image.fromarray((darkest + noise).astype(np.uint8))
    return np.array(cells_image.resize(size, Image.Resampling.BICUBIC))


def _colour(random: np.random.Generator, behind: np.ndarray, contrast: float) -> UInt8[np.ndarray, "3"]:
    """A uniformly random colour that is far enough from the one behind it."""
    while True:
        colour = random.integers(256, size=3, dtype=np.uint8)
        if np.linalg.norm(colour - behind) >= contrast:
            return colour


def _mask(kind: Kind, box: Box, size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels of a shape that touches all four sides of its box."""
    canvas = Image.new("1", (size, size))
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    across, down = (left + right) // 2, (top + bottom) // 2
    match kind:
        case "rectangle":
            draw.rectangle((left, top, right, bottom), fill=1)
        case "ellipse":
            draw.ellipse((left, top, right, bottom), fill=1)
        case "triangle":
            draw.polygon([(across, top), (right, bottom), (left, bottom)], fill=1)
        case "diamond":
            draw.polygon([(across, top), (right, down), (across, bottom), (left, down)], fill=1)
    return np.array(canvas)


def _tight_box(mask: Bool[np.ndarray, "size size"]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
