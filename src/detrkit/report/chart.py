"""Lines over an axis, as a chart with words for what it shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64

from detrkit.report.content import Drawing
from detrkit.report.drawing import SIZE, legend_below, line_style, plain_ticks, sheet
from detrkit.report.thinning import Thinned, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TOLD = 6
"""How many lines the text alternative tells of one by one."""


class Line(NamedTuple):
    """A named curve."""

    label: str
    x: Float64[np.ndarray, " N"]
    y: Float64[np.ndarray, " N"]


class Axis(NamedTuple):
    """What an axis measures, and what it must show; logarithmic where the values span much."""

    name: str
    low: float | None = None
    high: float | None = None
    logarithmic: bool = False


def line_chart(
    name: str,
    title: str,
    lines: Sequence[Line],
    across: Axis,
    upward: Axis,
    *,
    caption: str = "",
    markers: bool = False,
    size: tuple[float, float] = SIZE,
) -> Drawing:
    """Lines over ``across``, thinned where there are many points; a lone line has the band of its bins.

    The caption says so where it was thinned.
    """
    thinned = [thin(line.x, line.y) for line in lines]
    with sheet(name, size) as drawn:
        axes = drawn.axes
        for number, (line, points) in enumerate(zip(lines, thinned, strict=True)):
            style = line_style(number, markers or len(points.x) == 1)
            if len(lines) == 1 and points.per_bin > 1:
                axes.fill_between(
                    points.x, points.lowest, points.highest, color=style["color"], alpha=0.22, lw=0
                )
            axes.plot(points.x, points.mean, label=line.label, **style)
        _set_axes(axes, across, upward, thinned)
        legend_below(axes)
    remarks = [caption, _thinning(thinned)]
    text = f"{title} over {across.name}: {'; '.join(_told(line) for line in lines[:_TOLD])}."
    if len(lines) > _TOLD:
        text += f" And {len(lines) - _TOLD} more lines."
    return Drawing(name, title, drawn.svg, text, " ".join(filter(None, remarks)))


def _set_axes(axes: "Axes", across: Axis, upward: Axis, thinned: list[Thinned]) -> None:
    axes.set_xlabel(across.name)
    axes.set_ylabel(upward.name)
    if across.low is not None or across.high is not None:
        axes.set_xlim(across.low, across.high)
    means = np.concatenate([points.mean for points in thinned]) if thinned else np.zeros(0)
    if upward.logarithmic and means.size and np.nanmin(means) > 0:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    elif upward.low is not None or upward.high is not None:
        axes.set_ylim(upward.low, upward.high)


def _thinning(thinned: list[Thinned]) -> str:
    most = max((points.per_bin for points in thinned), default=1)
    if most == 1:
        return ""
    band = "; the band goes from their lowest to their highest" if len(thinned) == 1 else ""
    return f"Each point is the mean of {most} values{band}."


def _told(line: Line) -> str:
    known = line.y[~np.isnan(line.y)]
    if not len(known):
        return f"{line.label}: nothing"
    first, last, low, high = known[0], known[-1], known.min(), known.max()
    if len(known) == 1:
        return f"{line.label}: {first:.3g}, once"
    return f"{line.label} goes from {first:.3g} to {last:.3g}, lowest {low:.3g}, highest {high:.3g}"
