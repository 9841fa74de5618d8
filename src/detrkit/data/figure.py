"""The picture of what a split is made of: six panels that can be told apart without colour."""

from typing import TYPE_CHECKING

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.statistics import LARGE, SMALL, SplitStatistics, co_occurrence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
"""Okabe and Ito's, which colour-blind people can tell apart."""

SHOWN_CLASSES, SHOWN_PAIRS = 20, 12
"""How many classes have a bar, and a row among those that occur together."""


def draw_statistics(catalog: Catalog, split: SplitStatistics, title: str, queries: int) -> "Figure":
    """Classes, objects per image, sizes, aspect ratios, centres and co-occurrence, on one page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)  # pyright: ignore
    panels = figure.subplots(2, 3).ravel()
    _draw_classes(panels[0], split)
    _draw_counts(panels[1], split, queries)
    _draw_sizes(panels[2], split)
    _draw_aspects(panels[3], split)
    _draw_centres(panels[4], split)
    _draw_pairs(panels[5], catalog, split)
    figure.suptitle(
        f"{title}: {split.images:,} images, {split.objects:,} objects, {len(split.names):,} classes",
        fontsize=15,
        fontweight="bold",
    )
    return figure


def _draw_classes(axes: "Axes", split: SplitStatistics) -> None:
    order = np.argsort(-split.objects_of_class, kind="stable")[:SHOWN_CLASSES]
    counts = split.objects_of_class[order]
    axes.barh(np.arange(len(order)), counts, color=BLUE, height=0.75)
    axes.set_yticks(np.arange(len(order)), [_short(split.names[label]) for label in order])
    axes.invert_yaxis()
    for place, count in enumerate(counts):
        axes.annotate(
            f"{count:,}", (count, place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.margins(x=0.14, y=0.01)
    rest = len(split.names) - len(order)
    _style(axes, "Classes" + (f" (the {len(order)} most frequent of {len(split.names)})" if rest else ""))
    axes.set_xlabel("objects")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _draw_counts(axes: "Axes", split: SplitStatistics, queries: int) -> None:
    most = int(split.objects_of_image.max(initial=0))
    width = max(1, -(-most // 50))
    bins = [start - 0.5 for start in range(0, most + 2 * width, width)]
    axes.hist(split.objects_of_image, bins, color=BLUE, edgecolor="white", linewidth=0.5)
    median = float(np.median(split.objects_of_image)) if split.images else 0.0
    axes.axvline(median, color=ORANGE, linestyle="--", label=f"median {median:g}, most {most:,}")
    axes.axvline(queries, color=GREY, linestyle=":", label=f"{queries} queries suggested")
    axes.legend(loc="upper center", framealpha=1, edgecolor="none")
    _style(axes, "Objects per image")
    axes.set(xlabel="objects", ylabel="images")


def _draw_sizes(axes: "Axes", split: SplitStatistics) -> None:
    sides = np.sqrt(split.areas[split.areas > 0])
    if not len(sides):
        _style(axes, "Sizes")
        return
    low, high = min(8.0, float(sides.min())), max(256.0, float(sides.max()))
    axes.hist(
        sides, np.geomspace(low, high * 1.01, 45).tolist(), color=BLUE, edgecolor="white", linewidth=0.5
    )
    axes.set_xscale("log", base=2)
    borders = (low, SMALL**0.5, LARGE**0.5, high * 1.01)
    for border in borders[1:3]:
        axes.axvline(border, color=GREY, linestyle="--", linewidth=1)
    axes.margins(y=0.18)
    for name, count, start, end in zip(
        ("small", "medium", "large"), split.by_size(), borders, borders[1:], strict=False
    ):
        text = f"{name}\n{count:,}\n{count / split.objects:.0%}"
        axes.text(
            (start * end) ** 0.5, 0.98, text, ha="center", va="top", transform=axes.get_xaxis_transform()
        )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(low, high * 1.01)
    _style(axes, "Sizes")
    axes.set(xlabel="root of the area, pixels", ylabel="objects")


def _draw_aspects(axes: "Axes", split: SplitStatistics) -> None:
    ticks = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    axes.hist(
        split.aspects.clip(1 / 10, 10),
        np.geomspace(1 / 10, 10 * 1.001, 46).tolist(),
        color=BLUE,
        edgecolor="white",
        linewidth=0.5,
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"1:{1 / tick:g}" if tick < 1 else f"{tick:g}:1" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    _style(axes, "Aspect ratios")
    axes.set(xlabel="width : height", ylabel="objects")


def _draw_centres(axes: "Axes", split: SplitStatistics) -> None:
    bins = int(np.clip(np.sqrt(split.objects / 10), 8, 40)) if split.objects else 8
    counts, _, _ = np.histogram2d(
        split.centres[:, 1].clip(0, 1), split.centres[:, 0].clip(0, 1), bins, [[0, 1], [0, 1]]
    )
    shown = axes.imshow(counts, cmap="cividis", extent=(0, 1, 1, 0), interpolation="nearest", aspect="auto")
    _add_scale(axes, shown, "objects")
    _style(axes, "Centres of boxes")
    axes.set(xlabel="fraction of the width", ylabel="fraction of the height")
    axes.grid(visible=False)


def _draw_pairs(axes: "Axes", catalog: Catalog, split: SplitStatistics) -> None:
    order = np.argsort(-split.images_of_class, kind="stable")[:SHOWN_PAIRS]
    order = [int(label) for label in order if split.images_of_class[label]]
    if not order:
        _style(axes, "Seen together")
        return
    counts = co_occurrence(catalog, order)
    share = counts / np.maximum(np.diag(counts), 1)[:, None]
    away = np.where(np.eye(len(order), dtype=np.bool_), np.nan, share)
    shown = axes.imshow(away, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    _add_scale(axes, shown, "share of the row's images that have the column's class")
    names = [_short(split.names[label]) for label in order]
    axes.set_xticks(range(len(order)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(order)), names)
    for row, values in enumerate(share):
        for column, value in enumerate(values):
            if row == column:
                continue
            colour = "black" if value > 0.55 else "white"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7.5)
    _style(axes, "Seen together")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _add_scale(axes: "Axes", shown: "AxesImage", label: str) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None  # the axes were made by it
    figure.colorbar(shown, ax=axes, label=label, pad=0.02)


def _style(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, pad=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)


def _short(name: str) -> str:
    """A class's name as an axis has room for; `$` would begin a formula."""
    return (name if len(name) <= 18 else f"{name[:17]}…").replace("$", r"\$")
