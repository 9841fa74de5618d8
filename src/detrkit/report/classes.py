"""What each class got, in a table that can be sorted."""

from collections.abc import Sequence
from typing import Any

from detrkit.report.content import Block, Column, Missing, Section, Table, Value
from detrkit.report.record import Record

_FRACTIONS = (
    ("AP", "AP", "average precision, over IoU 0.50 to 0.95"),
    ("AP50", "AP50", "average precision at IoU 0.50"),
    ("APs", "APs", "AP of objects of less than 32² pixels"),
    ("APm", "APm", "AP of objects of 32² to 96² pixels"),
    ("APl", "APl", "AP of objects of 96² pixels and more"),
    ("precision", "P", "precision at the score threshold with the best F1, at IoU 0.50"),
    ("recall", "R", "recall at that threshold"),
    ("f1", "F1", "the best F1, at IoU 0.50"),
    ("threshold", "at score", "the score threshold of the best F1"),
    ("mean_iou", "mean IoU", "mean IoU of the detections that count as right at IoU 0.50"),
)


def class_table(record: Record) -> Section:
    """One row per class: AP of its kinds, its best operating point, its IoU, and how many objects it has."""
    return Section("classes", "Classes", [_table(record)])


def _table(record: Record) -> Block:
    figures = class_figures(record)
    if not figures:
        return Missing("There are no figures of classes: no validation yet.")
    present = [column for column in _FRACTIONS if any(column[0] in one for one in figures.values())]
    columns = [
        Column("Class"),
        Column("Objects", "count", "annotated objects, crowds aside"),
        *(Column(title, "fraction", meaning) for _, title, meaning in present),
    ]
    rows: list[list[Value]] = [
        [name, one.get("objects"), *(one.get(key) for key, _, _ in present)] for name, one in figures.items()
    ]
    rows.sort(
        key=lambda row: (-1 if row[2] is None else -row[2], row[0]) if isinstance(row[2], float) else (1, "")
    )
    count = "The only class" if len(rows) == 1 else f"All {len(rows):,} classes, best AP first"
    return Table(f"{count}. A heading sorts; – says that there is nothing to measure.", columns, rows, True)


def class_figures(record: Record) -> dict[str, dict[str, Any]]:
    """What the metrics and the analysis say of each class, by its name."""
    figures = {name: dict(values) for name, values in record.classes.items()}
    for name, values in (record.analysis or {}).get("per_class", {}).items():
        figures.setdefault(name, {}).update(values)
    return figures


def class_comparison(records: Sequence[Record]) -> Section:
    """AP of each class in each run, and the difference of the last from the first."""
    found = [class_figures(record) for record in records]
    names = list(dict.fromkeys(name for one in found for name in one))
    blocks: list[Block] = [
        Missing(f"{record.name} has no figures of classes: no validation yet.")
        for record, one in zip(records, found, strict=True)
        if not one
    ]
    if names:
        blocks.append(_comparison(records, found, names))
    return Section("classes", "Classes", blocks)


def _comparison(records: Sequence[Record], found: list[dict[str, dict[str, Any]]], names: list[str]) -> Table:
    rows: list[list[Value]] = []
    for name in names:
        values = [one.get(name, {}).get("AP") for one in found]
        known = [value for value in (values[0], values[-1]) if value is not None and value >= 0]
        objects = next((one[name].get("objects") for one in found if name in one), None)
        rows.append([name, objects, *values, known[1] - known[0] if len(known) == 2 else None])
    columns = [
        Column("Class"),
        Column("Objects", "count"),
        *(Column(record.name, "fraction", "AP") for record in records),
        Column("Difference", "signed", f"{records[-1].name} less {records[0].name}"),
    ]
    return Table("AP of each class in each run. A heading sorts.", columns, rows, True)
