"""A picture to draw boxes, marks and captions on, enlarged or reduced to the size of a tile.

Nothing is said by colour alone: boxes are solid or dashed, and every caption has its sign.
"""

from itertools import pairwise

from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from detrkit.drawing import Colour, caption_font, ink_on
from detrkit.reading import writable

Box = tuple[float, float, float, float]

_FONT = caption_font(13)
_HEIGHT, _SPACE = 18, 4
"""Of a caption's paper, and between its side and the letters, in pixels."""
_HEAD = 22
"""Of the line of text above a picture."""
_DASH, _PAUSE = 9, 6


def fit(pixels: UInt8[Tensor, "3 H W"], side: int) -> tuple[Image.Image, float, float]:
    """The image, its longer side ``side`` pixels long, and what coordinates grow by across and down."""
    height, width = pixels.shape[-2:]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 2 else Image.Resampling.BICUBIC
    return to_pil_image(pixels).resize(size, smooth), size[0] / width, size[1] / height


class Canvas:
    """Draws on a picture; captions keep clear of each other where there is room."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self._pen = ImageDraw.Draw(picture)
        self._taken: list[Box] = []

    def box(self, box: Box, colour: Colour, *, dashed: bool = False) -> None:
        """The outline of a box, with a dark edge that stands out from any ground."""
        left, top, right, bottom = self._inside(box)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for start, end in pairwise(corners):
            for width, ink in ((5, (0, 0, 0)), (3, colour)):
                for part in _dashes(start, end) if dashed else [(start, end)]:
                    self._pen.line(part, fill=ink, width=width)

    def cross(self, x: float, y: float, colour: Colour) -> None:
        """A ring with a point in its middle."""
        for radius, ink in ((8, (0, 0, 0)), (7, colour), (4, (0, 0, 0)), (3, colour)):
            around = (x - radius, y - radius, x + radius, y + radius)
            if radius > 4:
                self._pen.ellipse(around, outline=ink, width=2)
            else:
                self._pen.ellipse(around, fill=ink)

    def caption(self, box: Box, text: str, colour: Colour) -> None:
        """A text at the box, in a place where no other stands if there is one."""
        left, top, right, bottom = self._inside(box)
        text = " ".join(writable(text).split())
        width = round(_FONT.getlength(text)) + 2 * _SPACE
        for y in (top - _HEIGHT, bottom + 1, top, bottom - _HEIGHT, top - 2 * _HEIGHT, bottom + _HEIGHT):
            for x in (left, right - width):
                at_x = max(0.0, float(min(x, self.picture.width - width)))
                at_y = max(0.0, float(min(y, self.picture.height - _HEIGHT)))
                area = (at_x, at_y, at_x + width, at_y + _HEIGHT)
                if not any(_meet(area, other) for other in self._taken):
                    self._write(area, text, colour)
                    return

    def headed(self, text: str) -> Image.Image:
        """The picture under a line of text."""
        whole = Image.new("RGB", (self.picture.width, self.picture.height + _HEAD), (255, 255, 255))
        whole.paste(self.picture, (0, _HEAD))
        ImageDraw.Draw(whole).text((2, 2), text, fill=(34, 34, 34), font=_FONT)
        return whole

    def _write(self, area: Box, text: str, colour: Colour) -> None:
        self._taken.append(area)
        self._pen.rectangle((area[0], area[1], area[2] - 1, area[3] - 1), fill=colour)
        self._pen.text((area[0] + _SPACE, area[1] + 1), text, fill=ink_on(colour), font=_FONT)

    def _inside(self, box: Box) -> Box:
        left, right = (max(1.0, min(side, self.picture.width - 2.0)) for side in (box[0], box[2]))
        top, bottom = (max(1.0, min(side, self.picture.height - 2.0)) for side in (box[1], box[3]))
        return _whole(left), _whole(top), _whole(max(left, right)), _whole(max(top, bottom))


def _whole(side: float) -> float:
    return float(round(side))


def _dashes(
    start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The pieces of a dashed line between two corners."""
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])  # sides are level or upright
    if not length:
        return []
    across, down = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    firsts = range(0, round(length), _DASH + _PAUSE)
    ends = [(float(first), min(first + _DASH, length)) for first in firsts]
    return [
        (
            (start[0] + across * first, start[1] + down * first),
            (start[0] + across * last, start[1] + down * last),
        )
        for first, last in ends
    ]


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
