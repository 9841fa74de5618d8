"""What goes wrong: types of errors and what each costs, and which class is taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.sparse import csr_array

from detrkit.report.bars import bars
from detrkit.report.content import (
    Block,
    Column,
    Drawing,
    Drawings,
    Heading,
    Missing,
    Section,
    Table,
    Text,
    Value,
)
from detrkit.report.drawing import CELL, CELL_MOST, sheet
from detrkit.report.record import Record, unevaluated

_MEANINGS = {
    "classification": "an object of another class is there",
    "localisation": "the right class, in a place that overlaps too little",
    "both": "a wrong class and a wrong place",
    "duplicate": "the object has a better detection already",
    "background": "nothing is there",
    "missed": "an object that no detection is near to finding",
}

MATRIX_CLASSES = 25
"""How many classes the drawn matrix has at most: those with the most objects."""

_WRITTEN = 12
"""Up to how many classes the cells have their shares written in."""


def mistakes_section(record: Record) -> Section:
    """The types of errors, their cost in AP50, and the confusion matrix."""
    why = unevaluated(record)
    if why or record.analysis is None:
        return Section("errors", "What goes wrong", [Missing(why)])
    analysis = record.analysis
    blocks = [
        *(_types(analysis["errors"]) if "errors" in analysis else [Missing(_UNTYPED)]),
        Heading("Which class is taken for which"),
        *_confusion(record, analysis["confusion"]),
    ]
    return Section("errors", "What goes wrong", blocks)


def compared_errors(records: Sequence[Record]) -> Section:
    """What each type of error costs each run."""
    known = [record for record in records if _typed(record)]
    blocks: list[Block] = [
        Missing(f"{record.name}: {unevaluated(record) or _UNTYPED}")
        for record in records
        if not _typed(record)
    ]
    if known:
        errors = [(record.analysis or {})["errors"] for record in known]
        rows: list[list[Value]] = [
            [name, *(one["costs"][name] for one in errors), meaning] for name, meaning in _MEANINGS.items()
        ]
        columns = [Column("Error"), *(Column(record.name, "fraction") for record in known), Column("Meaning")]
        blocks.append(
            Table(f"By how much AP50 would rise without the errors of a type. {_NO_SUM}", columns, rows)
        )
    return Section("errors", "What goes wrong", blocks)


def _typed(record: Record) -> bool:
    return not unevaluated(record) and "errors" in (record.analysis or {})


_UNTYPED = "The errors were not told apart by type when these detections were analysed."

_NO_SUM = "These are no parts of a whole and do not add up: mending one error changes what the others cost."


def _types(errors: dict[str, Any]) -> list[Block]:
    rows: list[list[Value]] = [
        [name, errors["counts"][name], errors["costs"][name], meaning] for name, meaning in _MEANINGS.items()
    ]
    rows.append(
        ["every wrong detection", None, errors["false_positives"], "all that is found and should not be"]
    )
    rows.append(
        ["every object not found", None, errors["false_negatives"], "all that is not found and should be"]
    )
    columns = [
        Column("Error"),
        Column("Number", "count"),
        Column("Cost in AP50", "fraction"),
        Column("Meaning"),
    ]
    costs = {name: errors["costs"][name] for name in _MEANINGS}
    blocks: list[Block] = [
        Text(
            "Every wrong detection has one type (Bolya et al. 2020). Its cost is by how much AP50 would rise "
            f"if the errors of that type alone were mended. {_NO_SUM}"
        )
    ]
    if errors["AP"] >= 0:
        chart = bars("error-costs", "What each type of error costs", costs, "{:.3f}", "rise of AP50")
        counts = {name: float(errors["counts"][name]) for name in _MEANINGS}
        number = bars(
            "error-counts", "How many there are", counts, "{:,.0f}", "detections, or objects missed"
        )
        blocks.append(Drawings([chart, number]))
    return [*blocks, Table("Types of errors", columns, rows)]


def _confusion(record: Record, confusion: dict[str, Any]) -> list[Block]:
    classes: list[str] = confusion["classes"]
    rows, columns, counts = np.array(confusion["cells"], np.int64).reshape(-1, 3).T
    # most cells are empty where there are many classes
    matrix = csr_array((counts, (rows, columns)), shape=(len(classes) + 1, len(classes) + 1))
    score = confusion["score"]
    kept = "all detections" if score is None else f"detections with a score of {score:.3f} or more"
    blocks: list[Block] = [
        Text(
            f"At IoU {confusion['iou']:.2f}, of {kept}. A row is what an object is, a column what it was "
            "found as; the last row is what was found where nothing is, the last column what was not found."
        ),
        Drawings([_matrix(classes, matrix)], size="wide" if len(classes) > _WRITTEN else "usual"),
    ]
    pairs = confusion["pairs"]
    if not pairs:
        return [*blocks, Text("No object was found as another class.")]
    listed: list[list[Value]] = [[pair["true"], pair["found"], pair["count"]] for pair in pairs]
    headings = [Column("It is"), Column("found as"), Column("times", "count")]
    return [*blocks, Table("Classes that are taken for each other most often", headings, listed)]


def _matrix(classes: list[str], matrix: csr_array) -> Drawing:
    order = np.argsort(-matrix[:-1].sum(axis=1), kind="stable")[:MATRIX_CLASSES]
    chosen = [*sorted(order.tolist()), len(classes)]
    share = matrix[chosen][:, chosen].toarray() / np.maximum(matrix[chosen].sum(axis=1), 1)[:, None]
    names = [*(_short(classes[label]) for label in chosen[:-1]), "background"]
    side = max(3.6, 1.6 + 0.2 * len(names))
    with sheet("confusion", (side + 0.6, side)) as drawn:
        _draw_cells(drawn.axes, share, written=len(names) <= _WRITTEN + 1)
        drawn.axes.set_xticks(range(len(names)), names, rotation=90)
        drawn.axes.set_yticks(range(len(names)), names)
        drawn.axes.set(xlabel="found as", ylabel="is")
    rest = len(classes) + 1 - len(names)
    caption = "Percent of the objects of a row (of the last: of what was found there)."
    if rest:
        caption += f" The {len(names) - 1} classes with the most objects; {rest:,} others are not drawn."
    right = int(matrix[:-1, :-1].trace())
    objects, missed, alarms = (
        int(part.sum()) for part in (matrix[:-1], matrix[:-1, [-1]], matrix[[-1], :-1])
    )
    text = (
        f"Confusion matrix of {len(names) - 1} classes and background: of {objects:,} objects {right:,} were "
        f"found as what they are, {int(matrix[:-1, :-1].sum() - right):,} as another class and "
        f"{missed:,} not at all; {alarms:,} detections are "
        "where nothing is."
    )
    return Drawing("confusion", "Confusion matrix", drawn.svg, text, caption)


def _draw_cells(axes: Any, share: Float64[np.ndarray, "C C"], written: bool) -> None:
    from matplotlib.colors import to_rgba

    rows, columns = np.nonzero(share)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        value = float(share[row, column])
        colour = to_rgba(CELL, max(0.06, CELL_MOST * value))
        axes.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=colour, lw=0)
        if written:
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5)
    number = len(share)
    axes.set(xlim=(-0.5, number - 0.5), ylim=(number - 0.5, -0.5), aspect="equal")
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
