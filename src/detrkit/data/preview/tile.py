"""One picture of the contact sheet, with boxes that have numbers and names.

It is shrunk before anything is drawn on it, so that lines and letters stay sharp.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from detrkit.drawing import Colour, caption_font, ink_on

TILE = (340, 300)
"""Largest (width, height) of a picture."""

_FONT = caption_font(11)
_HEIGHT, _SPACE = 14, 3
"""Of a caption's paper, and between its side and the letters, in pixels."""
_SMALL = 24
"""Pixels of a shorter side: what is shorter is a small box."""

_MOST_COVERED = 0.25
"""Captions are written as long as they cover less of the picture than this."""

_Area = tuple[int, int, int, int]
"""The first and the last pixel that something covers: left, top, right, bottom."""


class Mark(NamedTuple):
    """A box to draw. The long caption is written where the box is wide enough for it."""

    box: tuple[float, ...]
    colour: Colour
    caption: str
    long_caption: str
    trained: bool = True
    """Otherwise the line is thin."""


def draw_tile(pixels: UInt8[Tensor, "3 H W"], marks: list[Mark]) -> Image.Image:
    """The pixels at the size of a tile, and the marks, whose boxes are in these pixels, on them."""
    height, width = pixels.shape[-2:]
    scale = min(TILE[0] / width, TILE[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    picture = to_pil_image(pixels).resize(size, smooth)
    across, down = size[0] / width, size[1] / height
    pen = ImageDraw.Draw(picture)
    placed = [
        mark._replace(box=(left * across, top * down, right * across, bottom * down))
        for mark in marks
        for left, top, right, bottom in [mark.box]
    ]
    placed.sort(key=lambda mark: -_area(mark.box))  # small ones on top
    for mark in placed:
        _outline(pen, picture, mark)
    _write_captions(pen, picture, placed)
    return picture


def _outline(pen: ImageDraw.ImageDraw, picture: Image.Image, mark: Mark) -> None:
    """The box's border. A dark line around it stands out from any ground, but would hide a small object."""
    left, top, right, bottom = _inside(mark.box, picture)
    small = min(right - left, bottom - top) < _SMALL
    if mark.trained:
        around = (left - 1, top - 1, right + 1, bottom + 1)
        pen.rectangle(around, outline=mark.colour if small else (0, 0, 0))
    pen.rectangle(
        (left, top, right, bottom), outline=mark.colour, width=2 if mark.trained and not small else 1
    )


def _write_captions(pen: ImageDraw.ImageDraw, picture: Image.Image, marks: list[Mark]) -> None:
    """Each at a corner of its box where no other lies, if there is such a place."""
    taken: list[_Area] = []
    covered = 0
    for mark in marks:
        left, _, right, _ = _inside(mark.box, picture)
        fits = _FONT.getlength(mark.long_caption) + 2 * _SPACE <= right - left
        caption = mark.long_caption if fits else mark.caption
        places = _places(mark, picture, round(_FONT.getlength(caption)) + 2 * _SPACE)
        area = next((one for one in places if not any(_meet(one, other) for other in taken)), None)
        if area is None:
            continue
        taken.append(area)
        pen.rectangle(area, mark.colour)
        pen.text((area[0] + _SPACE, area[1]), caption, ink_on(mark.colour), _FONT)
        covered += (area[2] - area[0] + 1) * (area[3] - area[1] + 1)
        if covered > _MOST_COVERED * picture.width * picture.height:
            return


def _places(mark: Mark, picture: Image.Image, width: int) -> Iterator[_Area]:
    """Where a caption may stand: above, in or below the box's left, and then its right side."""
    left, top, right, bottom = _inside(mark.box, picture)
    tops = (top - _HEIGHT, top, bottom + 1, bottom - _HEIGHT)
    for x, y in product((left, right - width + 1), tops):
        x, y = max(0, min(x, picture.width - width)), max(0, min(y, picture.height - _HEIGHT))
        yield x, y, x + width - 1, y + _HEIGHT - 1


def _meet(a: _Area, b: _Area) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _inside(box: tuple[float, ...], picture: Image.Image) -> _Area:
    """The box's border in whole pixels, which are all on the picture."""
    left, right = (max(0, min(round(side), picture.width - 1)) for side in (box[0], box[2] - 1))
    top, bottom = (max(0, min(round(side), picture.height - 1)) for side in (box[1], box[3] - 1))
    return left, top, max(left, right), max(top, bottom)


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
