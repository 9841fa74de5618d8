"""Where the boxes of a DETR's queries fall (Carion et al. 2020, figure 7)."""

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from detrkit.inference.usage import QueryUsage

_KINDS = (
    ("small", "#009e73", "o"),
    ("large, wide", "#d55e00", "_"),
    ("large, upright", "#0072b2", "|"),
)
"""Okabe and Ito's colours, and a sign of their own, for boxes told apart as in DETR's figure."""
_SMALL = 96**2 / 640**2
"""Of an image's area: COCO's limit of large objects, in its usual size of an image."""


def usage_figure(usage: QueryUsage, num: int = 20, columns: int = 5) -> Figure:
    """Small pictures of the most used queries: the centres of their boxes in a square that is the image.

    The percentage is of the images in which the query answers.
    """
    order = np.argsort(-usage.answers, kind="stable")[:num]
    order = order[usage.answers[order] > 0]
    columns = max(1, min(columns, len(order)))
    rows = max(1, -(-len(order) // columns))
    figure = Figure(figsize=(8, 1.0 + 1.75 * rows * 5 / columns if len(order) else 1.2), layout="constrained")
    figure.suptitle(_sentence(usage), fontsize=9, x=0.01, ha="left")
    if not len(order):
        return figure
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(order) :]:
        axes.set_axis_off()
    for axes, query in zip(grid.flat, order.tolist(), strict=False):
        _draw(axes, usage, query)
    marks = [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=name) for name, colour, mark in _KINDS
    ]
    figure.legend(handles=marks, loc="outside lower left", ncols=3, fontsize=8, frameon=False)
    return figure


def _draw(axes: Axes, usage: QueryUsage, query: int) -> None:
    boxes = usage.found.boxes[usage.found.queries == query].astype(np.float64)
    kind = _kind(boxes)
    for number, (_, colour, mark) in enumerate(_KINDS):
        x, y = boxes[kind == number, :2].T
        axes.plot(
            x,
            y,
            mark,
            color=colour,
            markersize=4,
            alpha=0.7,
            markeredgewidth=1.2,
            rasterized=len(boxes) > 300,
        )
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")
    axes.set_title(f"query {query}: {usage.share[query]:.0%}", fontsize=8, pad=3)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)


def _kind(boxes: Float64[np.ndarray, "N 4"]) -> np.ndarray:
    """Positions in ``_KINDS``."""
    width, height = boxes[:, 2], boxes[:, 3]
    return np.where(width * height < _SMALL, 0, np.where(width >= height, 1, 2))


def _sentence(usage: QueryUsage) -> str:
    total, dead, often = len(usage.answers), int(usage.dead.sum()), int(usage.dominating.sum())
    return (
        f"Answers that score {usage.threshold:.2f} or more in {usage.images} images. Of {total} queries, "
        f"{dead} never answer and {often} in more than half of the images."
    )
