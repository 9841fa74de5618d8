"""What ``metrics.json`` and ``analysis.json`` state, for whoever reads files that others may have written."""

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from detrkit.reading import Count, Finite, Name, read_json

Fraction = Annotated[float, Meta(ge=-1 - 1e-6, le=1 + 1e-6)]
"""Of 1, but for its last bits; or -1, where there is nothing to measure, or a difference."""


class ClassFigures(TypedDict, total=False):
    """The figures of a class, as :class:`detrkit.evaluation.coco.ClassMetrics` has them."""

    AP: Fraction
    AP50: Fraction
    AP75: Fraction
    APs: Fraction
    APm: Fraction
    APl: Fraction
    AR: Fraction
    objects: Count


class Figures(TypedDict):
    """``metrics.json``: the figures of :class:`detrkit.evaluation.coco.Metrics`."""

    AP: Fraction
    AP50: Fraction
    AP75: NotRequired[Fraction]
    APs: NotRequired[Fraction]
    APm: NotRequired[Fraction]
    APl: NotRequired[Fraction]
    AR1: NotRequired[Fraction]
    AR10: NotRequired[Fraction]
    AR100: NotRequired[Fraction]
    ARs: NotRequired[Fraction]
    ARm: NotRequired[Fraction]
    ARl: NotRequired[Fraction]
    per_class: NotRequired[dict[str, ClassFigures]]


class _Point(TypedDict):
    threshold: Finite | None
    precision: Fraction | None
    recall: Fraction | None
    f1: Fraction | None


class _Operating(TypedDict):
    overall: _Point


_Column = Annotated[list[Fraction | None], Meta(min_length=1, max_length=10_000)]
_Edges = Annotated[list[Finite], Meta(min_length=2, max_length=1_000)]
_Counts = Annotated[list[Count], Meta(min_length=1, max_length=1_000)]


class _Sweep(TypedDict):
    iou: Fraction
    scores: Annotated[list[Finite], Meta(min_length=1, max_length=10_000)]
    precision: _Column
    recall: _Column
    f1: _Column
    per_image: Annotated[list[Finite | None], Meta(min_length=1, max_length=10_000)]


class _Overlap(TypedDict):
    iou: Fraction
    matched: Count
    mean: Fraction | None
    per_size: dict[str, Fraction | None]
    edges: _Edges
    counts: _Counts
    ious: _Column
    recall: Annotated[dict[Name, _Column], Meta(max_length=16)]


class _Calibration(TypedDict):
    iou: Fraction
    error: Fraction | None
    edges: _Edges
    accuracy: _Column
    counts: _Counts


class _Pair(TypedDict):
    true: str
    found: str
    count: Count


class _Confusion(TypedDict):
    iou: Fraction
    score: Finite | None
    classes: Annotated[list[str], Meta(min_length=1)]
    cells: list[tuple[Count, Count, Count]]
    pairs: list[_Pair]


class _Numbers(TypedDict):
    classification: Count
    localisation: Count
    both: Count
    duplicate: Count
    background: Count
    missed: Count


class _Costs(TypedDict):
    classification: Fraction
    localisation: Fraction
    both: Fraction
    duplicate: Fraction
    background: Fraction
    missed: Fraction


class _Errors(TypedDict):
    AP: Fraction
    counts: _Numbers
    costs: _Costs
    false_positives: Fraction
    false_negatives: Fraction


class _Interval(TypedDict):
    low: Fraction
    high: Fraction


class Stated(TypedDict):
    """``analysis.json``, as :class:`detrkit.evaluation.analysis.Analysis` makes it.

    Types of errors and the interval came later than the rest.
    """

    images: Count
    detections: Count
    operating: _Operating
    sweep: _Sweep
    overlap: _Overlap
    confusion: _Confusion
    calibration: _Calibration | None
    errors: NotRequired[_Errors]
    bootstrap: NotRequired[_Interval]
    per_class: dict[str, dict[str, Finite | None]]


def read_metrics(path: Path) -> dict[str, Any]:
    """A ``metrics.json``; an OSError or a ValueError where it is none."""
    return read_json(path, Figures)


def read_analysis(path: Path) -> dict[str, Any]:
    """An ``analysis.json`` whose parts agree; an OSError or a ValueError where it is none."""
    found = read_json(path, Stated)
    for agrees, what in _agreements(found):
        if not agrees:
            raise ValueError(f"{what} do not agree")
    return found


def _agreements(found: dict[str, Any]) -> list[tuple[bool, str]]:
    """What must hold between the parts, whatever their types."""
    best, sweep, overlap = found["operating"]["overall"], found["sweep"], found["overlap"]
    confusion, calibration = found["confusion"], found["calibration"]
    columns = [sweep[name] for name in ("precision", "recall", "f1", "per_image")]
    background = len(confusion["classes"])
    cells = confusion["cells"]
    return [
        (best["threshold"] is None or None not in best.values(), "the figures of operating.overall"),
        (_alike(sweep["scores"], *columns), "the columns of sweep"),
        (_alike(overlap["ious"], *overlap["recall"].values()), "ious and recall of overlap"),
        (len(overlap["edges"]) == len(overlap["counts"]) + 1, "edges and counts of overlap"),
        (not overlap["matched"] or overlap["mean"] is not None, "matched and mean of overlap"),
        (all(max(row, column) <= background for row, column, _ in cells), "cells and classes of confusion"),
        (calibration is None or _calibrates(calibration), "the columns of calibration"),
    ]


def _calibrates(calibration: dict[str, Any]) -> bool:
    bins = calibration["edges"][1:]
    return _alike(bins, calibration["counts"], calibration["accuracy"])


def _alike(*columns: list[Any]) -> bool:
    return len(set(map(len, columns))) == 1
