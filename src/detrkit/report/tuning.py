"""The page of a study of settings: what was best, what mattered, and how it went."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detrkit.report.bars import bars
from detrkit.report.content import (
    Column,
    Document,
    Drawing,
    Drawings,
    Facts,
    Figure,
    Figures,
    Missing,
    Section,
    Table,
    Text,
    Value,
)
from detrkit.report.drawing import LINES, MUTED, plain_ticks, sheet
from detrkit.tuning.outcome import Outcome, best_of, told
from detrkit.tuning.results import Results
from detrkit.tuning.space import Choice, Search, Span, word_of, written
from detrkit.tuning.standing import FATES, Fate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS: dict[Fate, tuple[str, str]] = {
    "ended": ("o", LINES[0]),
    "pruned": ("x", MUTED),
    "failed": ("v", LINES[1]),
}
"""What a trial of each fate looks like in a chart."""


def tuning_document(results: Results) -> Document:
    """All about a study of settings."""
    best = best_of(results.outcomes)
    summary = "No trial has come to its end yet."
    if best is not None:
        summary = f"Trial {best.number} was best: {told(best.settings)}."
    sections = [
        _overview(results),
        _importance(results),
        _slices(results),
        _history(results),
        _table(results),
    ]
    return Document(f"Settings for {results.request.recipe}", summary, sections)


def _overview(results: Results) -> Section:
    found, plan, request = results.outcomes, results.plan, results.request
    best, first = best_of(found), next((one for one in found if one.fate != "lost"), None)
    steps = sum(one.steps for one in found)
    figures = [
        Figure(_ap(best), "AP of the best trial", "" if best is None else f"trial {best.number}"),
        Figure(
            _ap(first),
            "AP of the recipe's own settings",
            "" if first is None else _how_far(first, plan.steps),
        ),
        Figure(str(len(found)), "trials", ", ".join(_counts(found))),
    ]
    facts = [
        ("Command", request.command or "–"),
        ("Searched", ", ".join(written(search) for search in request.searches)),
        ("Steps of a trial", f"{plan.steps:,}"),
        (
            "Steps of all trials",
            f"{steps:,} up to their last validations, {_saved(found, steps, plan.steps)}",
        ),
    ]
    return Section("overview", "Overview", [Figures(figures), Facts(facts)])


def _importance(results: Results) -> Section:
    if not results.importance:
        return Section("importance", "What mattered", [Missing("There are too few trials to tell.")])
    text = (
        "How much it depends on a setting whether a trial is among the best, as a share of all (PED-ANOVA). "
        "Trials are ranked by how far they came, then by their AP."
    )
    chart = bars("importance", "Importance", results.importance, "{:.2f}", "share")
    return Section("importance", "What mattered", [Text(text), Drawings([chart])])


def _slices(results: Results) -> Section:
    judged = [one for one in results.outcomes if one.fate in _MARKS]
    if not judged:
        return Section("slices", "Settings and AP", [Missing("No trial is over yet.")])
    text = (
        "Every trial at its last validation: a disc for one that was trained to its end, a cross for one "
        "that was ended early, a triangle for one that failed."
    )
    drawings = [_slice(number, search, judged) for number, search in enumerate(results.request.searches)]
    return Section("slices", "Settings and AP", [Text(text), Drawings(drawings)])


def _slice(number: int, search: Search, judged: Sequence[Outcome]) -> Drawing:
    name = f"slice-{number}"
    shown = [one for one in judged if search.name in one.settings]
    with sheet(name) as drawn:
        axes = drawn.axes
        axes.set_xlabel(search.name)
        match search:
            case Span(_, _, _, log, _):
                _mark(axes, shown, lambda one: one.settings[search.name])
                if log:
                    axes.set_xscale("log")
                    plain_ticks(axes.xaxis)
            case Choice(_, values):
                words = [word_of(value) for value in values]
                _mark(axes, shown, lambda one: words.index(word_of(one.settings[search.name])))
                axes.set_xticks(range(len(words)), words)
                axes.set_xlim(-0.5, len(words) - 0.5)
    best = max(shown, key=_height)
    text = f"AP of {len(shown)} trials over {search.name}; the highest, {_height(best):.3f}, at "
    return Drawing(name, search.name, drawn.svg, f"{text}{word_of(best.settings[search.name])}.")


def _mark(axes: "Axes", shown: Sequence[Outcome], across: Callable[[Outcome], float]) -> None:
    """A mark for every trial at its AP, by its fate."""
    for fate, (marker, colour) in _MARKS.items():
        of_fate = [one for one in shown if one.fate == fate]
        # a mark on the axis is not cut in half by it
        places, heights = [across(one) for one in of_fate], [_height(one) for one in of_fate]
        axes.plot(places, heights, marker, color=colour, clip_on=False)
    axes.set_ylabel("AP")
    axes.set_ylim(bottom=0)


def _history(results: Results) -> Section:
    judged = [one for one in results.outcomes if one.fate in _MARKS]
    best = best_of(judged)
    if best is None:
        return Section("history", "How it went", [Missing("No trial has come to its end yet.")])
    drawings = [_best_so_far(judged), _curves([one for one in judged if one.curve], best)]
    return Section("history", "How it went", [Drawings(drawings)])


def _best_so_far(judged: Sequence[Outcome]) -> Drawing:
    ended = [one for one in judged if one.fate == "ended"]
    highest = np.maximum.accumulate([_height(one) for one in ended])
    last = max(one.number for one in judged)
    with sheet("history") as drawn:
        numbers, heights = [*(one.number for one in ended), last], [*highest, highest[-1]]
        drawn.axes.plot(numbers, heights, drawstyle="steps-post", color=LINES[0], alpha=0.6)
        _mark(drawn.axes, judged, lambda one: one.number)
        drawn.axes.set_xlabel("trial")
    first, count = highest[0], len(ended)
    text = (
        f"Best AP of {count} trials that came to their end: {first:.3f} at first, {highest[-1]:.3f} at last."
    )
    return Drawing("history", "Best so far", drawn.svg, text)


def _curves(judged: Sequence[Outcome], best: Outcome) -> Drawing:
    """The curve of every trial, the best one above all others."""
    with sheet("curves") as drawn:
        for one in judged:
            is_best = one.number == best.number
            style = {"color": LINES[0] if is_best else MUTED, "alpha": 1.0 if is_best else 0.45}
            heights = [max(point.AP, 0.0) for point in one.curve]
            drawn.axes.plot(
                [point.step for point in one.curve], heights, marker=".", zorder=3 if is_best else 2, **style
            )
        drawn.axes.set(xlabel="steps", ylabel="AP")
        drawn.axes.set_ylim(bottom=0)
    longest = max(one.steps for one in judged)
    stopped = sum(one.steps < longest for one in judged)
    text = f"AP over steps of {len(judged)} trials, of which {stopped} end before step {longest:,}."
    return Drawing("curves", "The curves of trials", drawn.svg, text, "The best trial stands out.")


def _table(results: Results) -> Section:
    searches = results.request.searches
    columns = [
        Column("Trial", "count"),
        Column("AP", "fraction", "at its last validation"),
        Column("Loss", "number", "the mean of its last steps"),
        Column("Steps", "count", "until its last validation"),
        *(Column(search.name, "number" if isinstance(search, Span) else "text") for search in searches),
        Column("Fate"),
        Column("Reason"),
    ]
    rows = [_row(one, searches) for one in results.outcomes]
    meanings = "; ".join(f"{fate}: {meaning}" for fate, meaning in FATES.items())
    return Section(
        "trials", "Trials", [Text(f"{meanings}."), Table("All trials", columns, rows, sortable=True)]
    )


def _row(one: Outcome, searches: Sequence[Search]) -> list[Value]:
    settings = [_cell(one.settings.get(search.name), search) for search in searches]
    loss = one.curve[-1].loss if one.curve else None
    return [one.number, one.ap, loss, one.steps, *settings, one.fate, one.reason]


def _cell(value: Any, search: Search) -> Value:
    return value if value is None or isinstance(search, Span) else word_of(value)


def _height(one: Outcome) -> float:
    """Where a trial stands over an axis of AP."""
    return max(one.ap or 0.0, 0.0)


def _ap(one: Outcome | None) -> str:
    return "–" if one is None or one.ap is None else f"{max(one.ap, 0.0):.3f}"


def _how_far(first: Outcome, steps: int) -> str:
    return f"trial {first.number}, {first.fate} after {first.steps:,} of {steps:,} steps"


def _counts(found: Sequence[Outcome]) -> list[str]:
    fates = [one.fate for one in found]
    return [f"{fates.count(fate)} {fate}" for fate in FATES if fate in fates]


def _saved(found: Sequence[Outcome], steps: int, whole: int) -> str:
    """What ending trials early has saved."""
    full = whole * sum(one.fate in ("ended", "pruned") for one in found)
    return (
        "none being over" if not full else f"{math.ceil(100 * steps / full)} % of what they would take whole"
    )
