"""The figure of a convergence study: AP over seconds of training, and over images seen."""

from typing import TYPE_CHECKING

from detrkit.study.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people can tell apart."""


def draw_curves(results: Results) -> "Figure":
    """A line for each run, dashed where it is a longer one, through a mark at each validation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_time, by_images = figure.subplots(1, 2, sharey=True)
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(results.plan.request.recipes)}
    for row in results.rows:
        curve = row.outcome.curve
        style = {"color": colours[row.recipe], "linestyle": "--" if row.longer else "-", "marker": "."}
        found = [point.AP for point in curve]
        label = f"{row.recipe} (longer)" if row.longer else row.recipe
        by_time.plot([0, *(point.seconds for point in curve)], [0, *found], label=label, **style)
        by_images.plot([0, *(point.images for point in curve)], [0, *found], **style)
    by_time.set(xlabel="seconds of training", ylabel="validation AP")
    by_images.set(xlabel="images seen")
    for axes in (by_time, by_images):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure
