"""What a report is made of, before anyone decides how it looks.

Sections are functions from runs to these values; ``page`` turns them into HTML, ``markdown`` into Markdown,
and the terminal shows their tables.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Value = str | int | float | None
"""What a cell holds. None, and COCO's -1 in a column of fractions, say that there is nothing to measure."""

Kind = Literal["text", "count", "fraction", "signed", "number"]
"""How the cells of a column are shown; all but ``text`` are aligned to the right."""


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Missing(NamedTuple):
    """What is not here, and why."""

    text: str


class Heading(NamedTuple):
    """The title of what follows within a section."""

    text: str


class Facts(NamedTuple):
    """Names and what they are, such as a run's data and machine."""

    rows: list[tuple[str, str]]


class Figure(NamedTuple):
    """A few numbers to be seen first: each with what it is, and a remark below it."""

    value: str
    name: str
    remark: str = ""


class Figures(NamedTuple):
    """Figures side by side."""

    figures: list[Figure]


class Column(NamedTuple):
    """A column of a table; ``meaning`` explains an abbreviation."""

    name: str
    kind: Kind = "text"
    meaning: str = ""


class Table(NamedTuple):
    """Rows under named columns, the first of which names the row."""

    caption: str
    columns: list[Column]
    rows: list[list[Value]]
    sortable: bool = False


class Drawing(NamedTuple):
    """A curve or chart as SVG, whose colours are the page's variables.

    ``alternative`` tells in words and figures what there is to see.
    """

    name: str
    title: str
    svg: str
    alternative: str
    caption: str = ""


class Drawings(NamedTuple):
    """Drawings side by side: of the usual size, ``small`` ones that are many of a kind, or ``wide`` ones."""

    drawings: list[Drawing]
    size: Literal["usual", "small", "wide"] = "usual"


class Picture(NamedTuple):
    """A picture of pixels, as a JPEG file."""

    name: str
    jpeg: bytes
    width: int
    height: int
    alternative: str
    caption: str


class Pictures(NamedTuple):
    """Pictures side by side; wide ones need more room each."""

    pictures: list[Picture]
    wide: bool = False


Block = Text | Missing | Heading | Facts | Figures | Table | Drawings | Pictures


class Section(NamedTuple):
    """A part of the page, which a link leads to by its ``name``."""

    name: str
    title: str
    blocks: Sequence[Block]


class Document(NamedTuple):
    """A whole report."""

    title: str
    summary: str
    sections: Sequence[Section]


def show(value: Value, kind: Kind) -> str:
    """A cell as people read it; a dash where there was nothing to measure."""
    if value is None or value != value or (kind == "fraction" and value == -1):
        return "–"
    match kind:
        case "text":
            return str(value)
        case "count":
            return f"{value:,}"
        case "fraction":
            return f"{value:.3f}"
        case "signed":
            return f"{value:+.3f}"
        case "number":
            return f"{value:.4g}"
