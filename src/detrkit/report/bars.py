"""Counts and costs as bars."""

from collections.abc import Sequence

import numpy as np

from detrkit.report.content import Drawing
from detrkit.report.drawing import LINES, SIZE, sheet


def histogram(
    name: str, title: str, edges: Sequence[float], counts: Sequence[int], across: str, upward: str
) -> Drawing:
    """How many values lie between each two edges."""
    bounds, heights = np.array(edges, float), np.array(counts, float)
    with sheet(name) as drawn:
        widths = np.diff(bounds)
        drawn.axes.bar(bounds[:-1] + widths / 2, heights, widths * 0.9, color=LINES[0])
        drawn.axes.set(xlabel=across, ylabel=upward, xlim=(bounds[0], bounds[-1]))
        drawn.axes.grid(visible=False, axis="x")
    most = int(heights.argmax())
    text = (
        f"{title}: {int(heights.sum()):,} {upward} in {len(heights)} bins of {across} from {bounds[0]:.2f} "
        f"to {bounds[-1]:.2f}; most, {int(heights[most]):,}, from {bounds[most]:.2f} to "
        f"{bounds[most + 1]:.2f}."
    )
    return Drawing(name, title, drawn.svg, text)


def bars(
    name: str, title: str, values: dict[str, float], figure: str, across: str, caption: str = ""
) -> Drawing:
    """A bar for each name from top to bottom, with its value beside it, written as ``figure`` says."""
    with sheet(name, (SIZE[0], 0.55 + 0.29 * len(values))) as drawn:
        axes, places = drawn.axes, np.arange(len(values))
        axes.barh(places, list(values.values()), 0.7, color=LINES[0])
        axes.set_yticks(places, list(values))
        axes.invert_yaxis()
        for place, value in zip(places, values.values(), strict=True):
            axes.annotate(
                figure.format(value), (max(value, 0), place), (4, 0), textcoords="offset points", va="center"
            )
        axes.set_xlabel(across)
        axes.set_xlim(left=min(0, *values.values()), right=max(*values.values(), 1e-3) * 1.18)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
    told = ", ".join(f"{key} {figure.format(value)}" for key, value in values.items())
    return Drawing(name, title, drawn.svg, f"{title}: {told}.", caption)
