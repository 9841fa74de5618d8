"""What the validations found: over the epochs, and COCO's 12 figures of the best."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detrkit.monitoring.instability import instabilities
from detrkit.report.chart import Axis, Line, line_chart
from detrkit.report.content import Block, Column, Drawing, Drawings, Heading, Missing, Section, Table, Value
from detrkit.report.record import Record

FIGURES = {
    "AP": "average precision, over IoU 0.50 to 0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "APs": "AP of objects of less than 32² pixels",
    "APm": "AP of objects of 32² to 96² pixels",
    "APl": "AP of objects of 96² pixels and more",
    "AR1": "average recall with 1 detection of an image and class",
    "AR10": "average recall with 10 detections",
    "AR100": "average recall with 100 detections",
    "ARs": "AR100 of objects of less than 32² pixels",
    "ARm": "AR100 of objects of 32² to 96² pixels",
    "ARl": "AR100 of objects of 96² pixels and more",
}
"""COCO's 12 figures and what they are."""


def validation_section(records: Sequence[Record]) -> Section:
    """The figures over the epochs, and COCO's 12 of each run's best validation."""
    blocks: list[Block] = [
        Missing(f"{record.name}: no validation yet{_after(record)}.")
        for record in records
        if not record.validations and record.metrics is None
    ]
    validated = [record for record in records if record.validations]
    if validated:
        blocks.append(Drawings([*_charts(validated), *_matching(validated)]))
    measured = [record for record in records if record.metrics]
    if measured:
        blocks += [Heading("COCO's 12 figures"), twelve_figures(measured)]
    return Section("validation", "Validation", blocks)


def figures_section(records: Sequence[Record]) -> Section:
    """COCO's 12 figures alone."""
    measured = [record for record in records if record.metrics]
    lacking = [Missing(f"{record.name}: no validation yet.") for record in records if not record.metrics]
    return Section(
        "figures", "COCO's 12 figures", [*lacking, *([twelve_figures(measured)] if measured else [])]
    )


def twelve_figures(records: Sequence[Record]) -> Table:
    """COCO's 12 figures, one run beside the other."""
    rows: list[list[Value]] = [
        [name, *((record.metrics or {}).get(name) for record in records), meaning]
        for name, meaning in FIGURES.items()
    ]
    values = [Column(record.name if len(records) > 1 else "Value", "fraction") for record in records]
    caption = "Of the best validation. – says that there is no object to find."
    return Table(caption, [Column("Figure"), *values, Column("Meaning")], rows)


def _after(record: Record) -> str:
    return f" after {record.steps[-1]['step']:,} steps" if record.steps else ""


def _charts(records: Sequence[Record]) -> list[Drawing]:
    if len(records) > 1:
        return [_of_runs(name, records) for name in ("AP", "AP50", "AP75", "AR100")]
    (record,) = records
    charts = [
        _of_one(record, "precision", "Average precision", ("AP", "AP50", "AP75")),
        _of_one(record, "sizes", "Average precision by size of objects", ("APs", "APm", "APl")),
        _of_one(record, "recall", "Average recall by number of detections", ("AR1", "AR10", "AR100")),
    ]
    if any(raw_of(line) for line in record.validations):
        lines = [_line(record, "average of weights", "AP"), _raw_line(record)]
        chart = line_chart(
            "validation-raw", "AP of the averaged and the raw weights", lines, _EPOCHS, _SHARE, markers=True
        )
        charts.append(chart)
    return charts


_EPOCHS, _SHARE = Axis("epochs"), Axis("", low=0.0)


def _of_one(record: Record, key: str, title: str, names: tuple[str, ...]) -> Drawing:
    lines = [line for line in (_line(record, name, name) for name in names) if not np.isnan(line.y).all()]
    return line_chart(f"validation-{key}", title, lines, _EPOCHS, _SHARE, markers=True)


def _of_runs(name: str, records: Sequence[Record]) -> Drawing:
    lines = [_line(record, record.name, name) for record in records]
    return line_chart(f"validation-{name}", name, lines, _EPOCHS, _SHARE, caption=FIGURES[name], markers=True)


def _matching(records: Sequence[Record]) -> list[Drawing]:
    """The instability of the matching, of the runs whose logs tell it."""
    changes = [(record, instabilities(record.validations)) for record in records]
    told = [(record, found) for record, found in changes if any(found)]
    if not told:
        return []
    lines = [
        Line(
            record.name if len(records) > 1 else "changed queries of an image",
            _epochs(record),
            np.array([np.nan if one is None else one.per_image for one in found]),
        )
        for record, found in told
    ]
    most = max(one.most / one.images for _, found in told for one in found if one)
    caption = (
        "How many queries of a training image answer for another object than at the validation before "
        "(DN-DETR, section 3.2): the mean over a few images, which are always the same. "
        f"It would be {most:.3g} if all of them changed."
    )
    return [
        line_chart(
            "validation-matching",
            "Instability of the matching",
            lines,
            _EPOCHS,
            _SHARE,
            caption=caption,
            markers=True,
        )
    ]


def _line(record: Record, label: str, name: str) -> Line:
    found = [line["metrics"].get(name, -1) for line in record.validations]
    return Line(
        label, _epochs(record), np.array([np.nan if value == -1 else value for value in found], float)
    )


def _raw_line(record: Record) -> Line:
    found = [raw_of(line).get("AP", np.nan) for line in record.validations]
    return Line("raw weights", _epochs(record), np.array(found, dtype=float))


def _epochs(record: Record) -> np.ndarray:
    return np.array([line["epoch"] for line in record.validations], dtype=float)


def raw_of(line: dict[str, Any]) -> dict[str, Any]:
    """The figures of the weights themselves, where it was their average that was judged."""
    return line.get("raw") or {}
