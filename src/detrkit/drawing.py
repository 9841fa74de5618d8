"""Boxes and their labels drawn onto an image, legible whatever its size.

Captions would hide a small image, so it is enlarged as many times as its longer side fits into 512 pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import distribution
from math import ceil

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from detrkit.structures import Detections

Colour = tuple[int, int, int]

# Okabe and Ito's palette, told apart with every common kind of colour blindness
# (https://jfly.uni-koeln.de/color/), without its black.
_PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

_SMALL = 512
"""Pixels of a longer side: what is at most half as long is enlarged."""


def draw_detections(
    image: UInt8[Tensor, "3 H W"], detections: Detections, names: Sequence[str]
) -> UInt8[Tensor, "3 h w"]:
    """The image with what was found in it, the best on top; ``names[label]`` names a class."""
    boxes, scores, labels = (column.flip(0) for column in detections)
    found = zip(labels.tolist(), scores.tolist(), strict=True)
    captions = [f"{names[label]} {score:.2f}" for label, score in found]
    return _draw(image, boxes, labels, captions)


def draw_objects(
    image: UInt8[Tensor, "3 H W"],
    boxes: Float[Tensor, "N 4"],
    labels: Int[Tensor, " N"],
    names: Sequence[str],
) -> UInt8[Tensor, "3 h w"]:
    """The image with annotated objects, whose boxes are in image space."""
    return _draw(image, boxes, labels, [f"{names[label]}" for label in labels.tolist()])


def label_colour(label: int) -> Colour:
    """The colour of a label: a hue of the palette, made lighter or darker each time the palette repeats."""
    hue = _PALETTE[label % len(_PALETTE)]
    shade = label // len(_PALETTE) * 0.618 % 1  # multiples of the golden ratio never fall together
    towards, amount = (255, shade) if shade < 0.5 else (0, 1 - shade)
    return (_mix(hue[0], towards, amount), _mix(hue[1], towards, amount), _mix(hue[2], towards, amount))


def ink_on(paper: Colour) -> Colour:
    """Black or white, whichever is read more easily on this colour."""
    red, green, blue = paper
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)


@lru_cache(maxsize=8)
def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of captions, with letters of many scripts; ``size`` is in pixels."""
    # Pillow's own font has no accents, Greek or Cyrillic; the one that comes with matplotlib does.
    path = distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)


def _draw(image: Tensor, boxes: Tensor, labels: Tensor, captions: list[str]) -> Tensor:
    factor = max(1, _SMALL // max(image.shape[1:]))
    boxes = boxes * factor
    picture = to_pil_image(image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2))
    pen = ImageDraw.Draw(picture)
    scale = (picture.width * picture.height) ** 0.5
    font = caption_font(max(10, round(scale / 36)))
    line = max(1, round(scale / 250))
    right_bottom = torch.tensor([picture.width - 1, picture.height - 1]).repeat(2)
    visible = boxes.cpu().clamp(min=torch.zeros(4), max=right_bottom).tolist()
    for (left, top, right, bottom), label, caption in zip(visible, labels.tolist(), captions, strict=True):
        colour = label_colour(label)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        _draw_caption(pen, picture, (left, top), " ".join(caption.split()), font, colour)
    return pil_to_tensor(picture)


def _draw_caption(
    pen: ImageDraw.ImageDraw,
    picture: Image.Image,
    corner: tuple[float, float],
    caption: str,
    font: ImageFont.FreeTypeFont,
    colour: Colour,
) -> None:
    """Write above the corner, or as near to it as keeps the text inside the picture."""
    ascent, descent = font.getmetrics()
    margin = max(1, descent // 3)
    width, height = ceil(pen.textlength(caption, font)) + 2 * margin, ascent + descent
    left = max(0, min(round(corner[0]), picture.width - width))
    top = max(0, round(corner[1]) - height)
    pen.rectangle((left, top, left + width - 1, top + height), fill=colour)
    pen.text((left + margin, top), caption, fill=ink_on(colour), font=font)


def _mix(value: int, towards: int, amount: float) -> int:
    return round(value + (towards - value) * amount)
