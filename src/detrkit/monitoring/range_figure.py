"""The picture of a learning-rate range test."""

from typing import TYPE_CHECKING

from detrkit.training.range_test import RangeTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_range_test(test: RangeTest) -> "Figure":
    """The loss over the learning rate, as it was and smoothed, with the suggestion as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.rates, test.losses, ".", color="#999999", markersize=4, label="loss of a step")
    axes.plot(test.rates, test.smoothed, color="#0072B2", label="smoothed")
    if test.suggestion is not None:
        label = f"suggestion: {test.suggestion:.0e}"
        axes.axvline(test.suggestion, color="#D55E00", linestyle="--", label=label)
    axes.set(xscale="log", xlabel="learning rate (optim.lr)", ylabel="loss")
    # what is beyond twice the lowest is divergence, and would press the rest flat
    axes.set_ylim(0.9 * min(test.losses), 1.1 * max(test.smoothed))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
