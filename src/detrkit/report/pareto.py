"""Accuracy over latency, and the frontier: who is there is beaten by nobody in both."""

from collections.abc import Sequence
from typing import NamedTuple

from detrkit.benchmark.results import Results
from detrkit.report.content import Drawing
from detrkit.report.drawing import LINES, MUTED, SIZE, plain_ticks, sheet

_MARKS = "os^Dv<>pPX*h"
_WIDE = 4
"""From this ratio of the slowest to the fastest on, the axis is logarithmic, with at least a tick or two."""


class Point(NamedTuple):
    """An entrant with both: the median latency in seconds, the AP, and its 95 % interval."""

    name: str
    seconds: float
    ap: float
    low: float
    high: float


def points(results: Results, precision: str) -> list[Point]:
    """Those of all entrants that have an AP and a latency in this precision."""
    found = []
    for row in results.rows:
        accuracy, speed = row.accuracy, row.speed.get(precision)
        if accuracy is not None and speed is not None and accuracy.figures["AP"] >= 0:
            found.append(Point(row.name, speed.p50, accuracy.figures["AP"], accuracy.low, accuracy.high))
    return found


def frontier(found: Sequence[Point]) -> list[Point]:
    """Those that nobody else is at least as fast and at least as accurate as, from fast to slow."""
    best: list[Point] = []
    for point in sorted(found, key=lambda one: (one.seconds, -one.ap)):
        if not best or point.ap > best[-1].ap:
            best.append(point)
    return best


def pareto_chart(precision: str, found: Sequence[Point]) -> Drawing:
    """A mark for each entrant with the interval of its AP, filled and joined on the frontier."""
    from matplotlib.ticker import LogLocator

    name, best = f"pareto-{precision}", frontier(found)
    with sheet(name, (SIZE[0], SIZE[1] + 0.16 * len(found) / 2)) as drawn:
        axes = drawn.axes
        axes.plot(
            [point.seconds * 1e3 for point in best],
            [point.ap for point in best],
            drawstyle="steps-post",
            color=MUTED,
            linewidth=1,
        )
        for number, point in enumerate(found):
            colour = LINES[number % len(LINES)]
            axes.errorbar(
                [point.seconds * 1e3],
                [point.ap],
                yerr=[[max(point.ap - point.low, 0)], [max(point.high - point.ap, 0)]],
                fmt=_MARKS[number % len(_MARKS)],
                color=colour,
                markerfacecolor=colour if point in best else "none",
                markersize=6,
                elinewidth=0.8,
                label=point.name,
                clip_on=False,
            )
        axes.set(xlabel=f"median latency in {precision}, ms", ylabel="AP")
        if max(point.seconds for point in found) > _WIDE * min(point.seconds for point in found):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            plain_ticks(axes.xaxis)
        axes.margins(x=0.1)
        axes.set_ylim(bottom=0)
        figure = axes.get_figure(root=True)
        assert figure is not None  # the axes were made by it
        figure.legend(loc="outside lower center", ncols=2)
    told = "; ".join(f"{point.name} {point.ap:.3f} at {point.seconds * 1e3:.3g} ms" for point in found)
    names = ", ".join(point.name for point in best)
    return Drawing(
        name,
        f"AP over latency in {precision}",
        drawn.svg,
        f"AP over median latency in {precision}: {told}. On the frontier: {names}.",
        f"On the frontier: {names}. Bars are the 95 % intervals of AP.",
    )
