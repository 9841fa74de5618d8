"""How the charts of a page look: one style, in the page's own colours, small and readable in light and dark.

matplotlib draws in stand-in colours, and the SVG that comes out is given the page's CSS variables and fonts
instead of them, so that one drawing serves both themes. Text stays text, and is never read as a formula.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which colour-blind people can tell apart; the page has its own shades."""

DASHES = ("-", "--", "-.", ":")
"""What tells lines apart without colour."""

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins for the page's text, lesser text, thin lines and background."""

CELL = "#0072b3"
"""The colour of cells, the same in both themes."""

CELL_MOST = 0.75
"""How opaque a cell may be for text to be read on it in both themes."""

_VARIABLES = {colour: f"var(--line-{number})" for number, colour in enumerate(LINES, start=1)} | {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    CELL: "var(--cell)",
}

SIZE, SMALL = (4.4, 2.7), (2.2, 1.9)
"""Inches of a chart, and of one of many: shown at these widths or up to half as large again."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "detrkit",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.6,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.5,
    "path.simplify": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class Sheet:
    """A chart while it is drawn; ``svg`` is what became of it when the ``sheet`` is closed."""

    def __init__(self, figure: "Figure", axes: "Axes") -> None:
        self.figure = figure
        self.axes = axes
        self.svg = ""


@contextmanager
def sheet(name: str, size: tuple[float, float] = SIZE) -> Iterator[Sheet]:
    """An empty chart in the page's style; ``name`` tells its parts from those of the page's other charts."""
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=size, layout="constrained")
        opened = Sheet(figure, figure.subplots())
        yield opened
        opened.svg = _to_svg(figure, name)


def drawn(name: str, draw: Callable[[], "Figure"]) -> str:
    """A figure that is drawn elsewhere, in the page's style, as SVG."""
    with _styled():
        return _to_svg(draw(), name)


@contextmanager
def _styled() -> Iterator[None]:
    from matplotlib import style

    # from matplotlib's own defaults, whatever the user or another library has set
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _to_svg(figure: "Figure", name: str) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return cleaned(text.getvalue(), name)


def line_style(number: int, markers: bool = False) -> dict[str, Any]:
    """Colour and dashes of the line of that number, so that no two look alike."""
    dashes = DASHES[number // len(LINES) % len(DASHES)]
    style: dict[str, Any] = {"color": LINES[number % len(LINES)], "linestyle": dashes}
    return style | {"marker": "o"} if markers else style


def legend_below(axes: "Axes", columns: int = 4) -> None:
    """The names of the lines, under the chart where they hide none of them."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None  # the axes were made by it
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)))


def plain_ticks(axis: Any) -> None:
    """Figures of a logarithmic axis written out, since a formula would be shown as its source."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def cleaned(svg: str, name: str) -> str:
    """Matplotlib's SVG as part of a page: no header, no fixed size, ids of its own, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r' xmlns:xlink="[^"]*"| version="1.1"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = _own_ids(svg, name)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _own_ids(svg: str, name: str) -> str:
    """The SVG with ids that start with ``name``, without those that nothing refers to."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    for old in used:
        svg = re.sub(rf'(id="|url\(#|href="#){re.escape(old)}(?=[")])', rf"\g<1>{name}-{old}", svg)
    return svg
