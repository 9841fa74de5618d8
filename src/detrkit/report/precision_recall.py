"""Precision over recall, of all classes and of each, and what a score threshold makes of them."""

from collections.abc import Sequence

import numpy as np

from detrkit.report.chart import Axis, Line, line_chart
from detrkit.report.content import Block, Drawing, Drawings, Heading, Missing, Section, Text
from detrkit.report.drawing import INK, LINES, MUTED, SMALL, legend_below, sheet
from detrkit.report.record import Record, unevaluated

DRAWN_CLASSES = 24
"""How many classes have a chart of their own: those with the most objects."""

_RECALL, _PRECISION = Axis("recall", 0, 1), Axis("precision", 0, 1.02)


def precision_recall_section(record: Record) -> Section:
    """The curves at COCO's IoUs and of each class, and the sweep over score thresholds."""
    return Section("precision-recall", "Precision and recall", _blocks(record))


def overlaid_curves(records: Sequence[Record]) -> Section:
    """The mean curve of each run, at IoU 0.50 and over all IoUs."""
    blocks: list[Block] = []
    known = [record for record in records if _drawable(record)]
    blocks += [Missing(f"{record.name}: {_why(record)}") for record in records if not _drawable(record)]
    if known:
        at_first = [_line(record, record.name, 0) for record in known]
        over_all = [_line(record, record.name) for record in known]
        first = "IoU 0.50"
        blocks.append(
            Drawings(
                [
                    line_chart("pr-first", f"At {first}", at_first, _RECALL, _PRECISION),
                    line_chart("pr-mean", "Mean over IoU 0.50 to 0.95", over_all, _RECALL, _PRECISION),
                ]
            )
        )
    return Section("precision-recall", "Precision and recall", blocks)


def _drawable(record: Record) -> bool:
    return not unevaluated(record) and record.curves is not None


def _why(record: Record) -> str:
    return unevaluated(record) or f"The curves are not known: {record.why['precision_recall.npz']}."


def _line(record: Record, label: str, iou: int | None = None) -> Line:
    curves = record.curves
    assert curves is not None  # only what is drawable comes here
    overall = curves["overall"]
    return Line(label, curves["recalls"], overall.mean(axis=0) if iou is None else overall[iou])


def _blocks(record: Record) -> list[Block]:
    blocks: list[Block] = []
    if _drawable(record):
        blocks.append(Drawings([_overall(record)]))
    else:
        blocks.append(Missing(_why(record)))
    if record.analysis is not None and not unevaluated(record):
        blocks += [Heading("Where to put the score threshold"), *_sweep(record.analysis)]
    if _drawable(record):
        blocks += _of_classes(record)
    return blocks


def _overall(record: Record) -> Drawing:
    curves = record.curves
    assert curves is not None  # only what is drawable comes here
    recalls, ious, overall = curves["recalls"], curves["ious"], curves["overall"]
    named = {0: "-", int(np.abs(ious - 0.75).argmin()): "--"}
    mean = overall.mean(axis=0)
    with sheet("pr-overall") as drawn:
        axes = drawn.axes
        for row, precision in enumerate(overall):
            if row not in named:
                axes.plot(recalls, precision, color=MUTED, lw=0.7, alpha=0.6)
        for number, (row, dashes) in enumerate(named.items()):
            axes.plot(recalls, overall[row], color=LINES[number], ls=dashes, label=f"IoU {ious[row]:.2f}")
        if len(ious) > 1:
            axes.plot(recalls, mean, color=INK, lw=2, label=f"mean of {len(ious)} IoUs")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        legend_below(axes)
    areas = ", ".join(
        f"{area:.3f} at {iou:.2f}" for iou, area in zip(ious, overall.mean(axis=1), strict=True)
    )
    text = f"Precision over recall, mean of all classes. The area, which is AP, by IoU: {areas}."
    caption = (
        "Mean of the classes that have objects, at every IoU of the evaluation; thin lines are the others."
    )
    return Drawing("pr-overall", "All classes", drawn.svg, text, f"{caption} The area below is AP.")


def _sweep(analysis: dict) -> list[Block]:
    sweep, best = analysis["sweep"], analysis["operating"]["overall"]
    scores = np.array(sweep["scores"], float)
    lines = [
        Line(label, scores, np.array(sweep[key], float))
        for label, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
    ]
    left = [Line("detections", scores, np.array(sweep["per_image"], float))]
    at = Axis("score threshold", float(scores.min()), float(scores.max()))
    sentence = f"All classes counted together at IoU {sweep['iou']:.2f}."
    if best["threshold"] is not None:
        sentence = (
            f"F1 is best, {best['f1']:.3f}, if detections with a score of {best['threshold']:.3f} or more "
            f"are kept: precision {best['precision']:.3f}, recall {best['recall']:.3f}. {sentence}"
        )
    per_image = Axis("detections of an image", low=0.0, logarithmic=True)
    return [
        Text(sentence),
        Drawings(
            [
                line_chart("sweep", "Precision, recall and F1", lines, at, Axis("", 0, 1.02)),
                line_chart("sweep-number", "Detections left of an image", left, at, per_image),
            ]
        ),
    ]


def _of_classes(record: Record) -> list[Block]:
    curves = record.curves
    assert curves is not None  # only what is drawable comes here
    names: list[str] = curves["classes"].tolist()
    objects = [record.classes.get(name, {}).get("objects", 0) for name in names]
    present = [label for label in range(len(names)) if (curves["precision"][:, :, label] > -1).all()]
    present.sort(key=lambda label: -objects[label])
    if len(names) < 2 or not present:
        return []
    chosen = present[:DRAWN_CLASSES]
    rest = len(present) - len(chosen)
    text = (
        "Recall across, precision upward: solid at the lowest IoU, dashed the mean over all IoUs."
        if len(curves["ious"]) > 1
        else "Recall across, precision upward."
    )
    if rest:
        text = (
            f"The {len(chosen)} classes with the most objects; the other {rest:,} are in "
            f"precision_recall.npz, and all are in the table of classes. {text}"
        )
    drawings = [_of_class(curves, label, number, objects[label]) for number, label in enumerate(chosen)]
    return [Heading("By class"), Text(text), Drawings(drawings, size="small")]


def _of_class(curves: dict[str, np.ndarray], label: int, number: int, objects: int) -> Drawing:
    precision, recalls = curves["precision"][:, :, label], curves["recalls"]
    name, key = str(curves["classes"][label]), f"pr-class-{number}"
    first, mean = float(precision[0].mean()), float(precision.mean())
    with sheet(key, SMALL) as drawn:
        drawn.axes.plot(recalls, precision[0], color=LINES[0])
        drawn.axes.fill_between(recalls, precision[0], color=LINES[0], alpha=0.12, lw=0)
        if len(precision) > 1:
            drawn.axes.plot(recalls, precision.mean(axis=0), color=LINES[1], ls="--")
        drawn.axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    at = f"AP {mean:.3f}, at IoU {curves['ious'][0]:.2f} {first:.3f}"
    text = f"Precision over recall of {name}: {at}, {objects:,} objects."
    return Drawing(key, name, drawn.svg, text, f"{at}; {objects:,} objects")
