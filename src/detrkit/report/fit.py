"""How well boxes fit: IoU of what was found, and recall that is left when IoU must be higher."""

from typing import Any

import numpy as np

from detrkit.report.bars import histogram
from detrkit.report.chart import Axis, Line, line_chart
from detrkit.report.content import Block, Column, Drawings, Missing, Section, Table, Text, Value
from detrkit.report.record import Record, unevaluated

_SIZES = {"small": "less than 32² pixels", "medium": "32² to 96² pixels", "large": "96² pixels and more"}


def fit_section(record: Record) -> Section:
    """The distribution of IoU, its mean by size, and recall over IoU."""
    why = unevaluated(record)
    if why or record.analysis is None:
        return Section("iou", "How well boxes fit", [Missing(why)])
    return Section("iou", "How well boxes fit", _blocks(record.analysis["overlap"]))


def _blocks(overlap: dict[str, Any]) -> list[Block]:
    recall = {name: np.array(values, float) for name, values in overlap["recall"].items()}
    lines = [
        Line(name, np.array(overlap["ious"], float), values)
        for name, values in recall.items()
        if (values > -1).all()
    ]
    drawings = []
    blocks: list[Block] = []
    if not overlap["matched"]:
        blocks.append(
            Missing(f"No detection has an IoU of {overlap['iou']:.2f} with an object of its class.")
        )
    else:
        blocks.append(
            Text(
                f"{overlap['matched']:,} detections count as right at IoU {overlap['iou']:.2f}, whatever "
                f"their score. Their mean IoU is {overlap['mean']:.3f}; that of each class is in the table "
                "of classes."
            )
        )
        drawings.append(
            histogram(
                "iou-histogram",
                "IoU of what is right",
                overlap["edges"],
                overlap["counts"],
                "IoU",
                "detections",
            )
        )
    if lines and len(lines[0].x) > 1:
        caption = "Mean recall of the classes; the mean over COCO's IoUs is AR100."
        chart = line_chart(
            "iou-recall", "Recall over IoU", lines, Axis("IoU"), Axis("recall", 0, 1.02), caption=caption
        )
        drawings.append(chart)
    if drawings:
        blocks.append(Drawings(drawings))
    if overlap["matched"]:
        blocks.append(_by_size(overlap))
    return blocks


def _by_size(overlap: dict[str, Any]) -> Table:
    rows: list[list[Value]] = [
        [f"{name}, {area}", overlap["per_size"].get(name)] for name, area in _SIZES.items()
    ]
    return Table(
        "Mean IoU by the size of the object", [Column("Objects"), Column("Mean IoU", "fraction")], rows
    )
