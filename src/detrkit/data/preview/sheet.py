"""The contact sheet: each image as it is stored, and beside it what a network is given of it."""

from collections.abc import Iterable, Iterator

from PIL import Image, ImageDraw, ImageFont

from detrkit.catalog import Catalog
from detrkit.data.preview.captions import given_captions, stored_captions
from detrkit.data.preview.facts import seen
from detrkit.data.preview.given import Given, Preview
from detrkit.data.preview.tile import TILE, Mark, draw_tile
from detrkit.data.views import View
from detrkit.drawing import caption_font, label_colour
from detrkit.settings.data import DataSettings

_PAPER, _INK, _GREY, _LIGHT = (255, 255, 255), (34, 34, 34), (110, 110, 110), (214, 214, 214)
_MARGIN, _GAP = 28, 18
_TITLE, _TEXT = caption_font(20), caption_font(12)
_HEAD_LINE, _LINE = 34, 16
"""Pixels from the title, and from a line of text, to the next."""
_MOST_LINES = 5
"""Lines of text under a tile."""
_TICKS = 9
"""Height of the scale under a tile."""
_MAP = (52, 2 * _LINE)
"""Largest (width, height) of the little map that tells which part of its image a tile shows."""


def draw_sheet(
    title: str, catalog: Catalog, settings: DataSettings, previews: Iterable[Preview], cell: int
) -> Image.Image:
    """A row for each image. ``cell`` is how many pixels a cell of the finest feature map stands for."""
    rows, labels, columns = [], set(), 1
    for preview in previews:
        rows.append(_draw_row(catalog, settings, preview, cell))
        labels |= set(catalog.labels[catalog.rows(preview.image)].tolist())
        columns = 1 + len(preview.epochs)
    explanation = [
        "Left: as stored, with its annotations, of which thin lines are not trained on. Right: what the "
        "network is given in training, epoch by epoch. An object keeps its number through its row.",
        f"The scale under a picture counts feature cells of {cell} x {cell} pixels. The little map shows "
        "which part of the image is seen.",
    ]
    head = _draw_head(title, explanation, catalog, sorted(labels), _width(columns))
    strips = [head, *rows]
    height = sum(strip.height for strip in strips) + _GAP * len(rows)
    sheet = Image.new("RGB", (head.width + 2 * _MARGIN, height + 2 * _MARGIN), _PAPER)
    top = _MARGIN
    for strip in strips:
        sheet.paste(strip, (_MARGIN, top))
        top += strip.height + _GAP
    return sheet


def _draw_row(catalog: Catalog, settings: DataSettings, preview: Preview, cell: int) -> Image.Image:
    """Tiles that stand on one line, and under each what it shows."""
    index, size = preview.image, catalog.size(preview.image)
    tiles = [draw_tile(preview.stored, _stored_marks(catalog, index))]
    tiles += [draw_tile(given.pixels, _given_marks(catalog, index, given)) for given in preview.epochs]
    captions = [_lines(stored_captions(catalog, settings, index), TILE[0])]
    captions += [
        _lines(given_captions(catalog, index, epoch, given), TILE[0] - _MAP[0] - 8)
        for epoch, given in enumerate(preview.epochs)
    ]
    ground = max(tile.height for tile in tiles)
    below = ground + _TICKS
    height = below + _LINE * max(len(lines) for lines in captions)
    row = Image.new("RGB", (_width(len(tiles)), height), _PAPER)
    pen = ImageDraw.Draw(row)
    row.paste(tiles[0], (0, ground - tiles[0].height))
    _write(pen, (0, below), captions[0])
    for column, (tile, given) in enumerate(zip(tiles[1:], preview.epochs, strict=True), start=1):
        left = column * (TILE[0] + _GAP)
        row.paste(tile, (left, ground - tile.height))
        _draw_ticks(pen, (left, ground), tile.width, cell * tile.width / given.view.size[1])
        _draw_map(pen, (left, below + 3), size, given.view)
        _write(pen, (left + _MAP[0] + 8, below), captions[column])
    return row


def _width(columns: int) -> int:
    return columns * (TILE[0] + _GAP) - _GAP


def _stored_marks(catalog: Catalog, index: int) -> list[Mark]:
    """All annotations as the dataset has them."""
    rows, size = catalog.rows(index), catalog.size(index)
    whole = View((0, 0, size[1], size[0]), False, size)
    trained = set(seen(catalog, index, whole).annotations.tolist())
    return [
        _mark(catalog, index, row, tuple(catalog.boxes[row].tolist()), row in trained)
        for row in range(rows.start, rows.stop)
    ]


def _given_marks(catalog: Catalog, index: int, given: Given) -> list[Mark]:
    """The objects that the network is told of."""
    return [
        _mark(catalog, index, row, tuple(box), True)
        for row, box in zip(given.annotations.tolist(), given.boxes.tolist(), strict=True)
    ]


def _mark(catalog: Catalog, index: int, row: int, box: tuple[float, ...], trained: bool) -> Mark:
    label = int(catalog.labels[row])
    number = f"{row - int(catalog.offsets[index]) + 1}"
    name = _name(catalog, label)
    note = " (crowd)" if catalog.crowds[row] else "" if trained else " (no area)"
    return Mark(box, label_colour(label), number, f"{number} {name}{note}", trained)


def _name(catalog: Catalog, label: int) -> str:
    """The name of a class, on one line."""
    return " ".join(catalog.categories[label].name.split())


def _draw_head(
    title: str, explanation: list[str], catalog: Catalog, labels: list[int], width: int
) -> Image.Image:
    """The title, what is to be seen, and the colours of the classes on this sheet."""
    lines = [line for sentence in explanation for line in _wrapped(sentence, width)]
    names = [_shortened(_name(catalog, label), _TEXT, width - 2 * _LINE) for label in labels]
    places = list(_side_by_side(names, width, _HEAD_LINE + len(lines) * _LINE + 6))
    bottom = max((top + _LINE for _, top in places), default=_HEAD_LINE + len(lines) * _LINE)
    head = Image.new("RGB", (width, bottom), _PAPER)
    pen = ImageDraw.Draw(head)
    pen.text((0, 0), _shortened(title, _TITLE, width), _INK, _TITLE)
    for number, line in enumerate(lines):
        pen.text((0, _HEAD_LINE + number * _LINE), line, _GREY, _TEXT)
    for label, name, (left, top) in zip(labels, names, places, strict=True):
        pen.rectangle((left, top + 2, left + 11, top + 13), label_colour(label))
        pen.text((left + 18, top), name, _INK, _TEXT)
    return head


def _side_by_side(names: list[str], width: int, top: int) -> Iterator[tuple[int, int]]:
    """Where the names of the classes stand: their (left, top), in lines of this width."""
    left = 0
    for name in names:
        needed = 18 + round(_TEXT.getlength(name))
        if left and left + needed > width:
            left, top = 0, top + _LINE + 3
        yield left, top
        left += needed + 16


def _draw_ticks(pen: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, step: float) -> None:
    """A mark for each feature cell, longer after every fifth."""
    left, top = corner
    for number in range(int(width / step) + 1):
        at = left + round(number * step)
        pen.line((at, top + 1, at, top + (6 if number % 5 == 0 else 3)), _GREY)


def _draw_map(pen: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], view: View) -> None:
    """The frame of the image, and in it the part that is seen."""
    height, width = size
    scale = min(_MAP[0] / width, _MAP[1] / height)
    left, top = corner
    part = tuple(border * scale for border in view.part)
    pen.rectangle((left, top, left + width * scale, top + height * scale), _LIGHT)
    pen.rectangle((left + part[0], top + part[1], left + part[2], top + part[3]), _GREY)


def _write(pen: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[str]) -> None:
    """One line below the other, the first darker."""
    for number, line in enumerate(lines):
        place = corner[0], corner[1] + number * _LINE
        pen.text(place, line, _GREY if number else _INK, _TEXT)


def _lines(captions: list[str], width: int) -> list[str]:
    """The captions, each on lines of its own, and no more than there is room for."""
    lines = [line for caption in captions for line in _wrapped(caption, width)]
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], _shortened(" ".join(lines[_MOST_LINES - 1 :]), _TEXT, width)]


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _TEXT.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_shortened(line, _TEXT, width) for line in lines if line]


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of its beginning as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
