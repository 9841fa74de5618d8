"""Whether scores say how sure one can be: the reliability diagram."""

from typing import Any

import numpy as np

from detrkit.report.bars import histogram
from detrkit.report.content import Block, Drawing, Drawings, Missing, Section, Text
from detrkit.report.drawing import LINES, MUTED, legend_below, sheet
from detrkit.report.record import Record, unevaluated


def calibration_section(record: Record) -> Section:
    """Score against accuracy, the error in one figure, and how many detections have which score."""
    return Section("calibration", "Calibration", _blocks(record))


def _blocks(record: Record) -> list[Block]:
    why = unevaluated(record)
    if why or record.analysis is None:
        return [Missing(why)]
    found = record.analysis["calibration"]
    if found is None:
        return [Missing("Scores lie outside 0 to 1, so they are no probabilities and cannot be calibrated.")]
    if found["error"] is None:
        return [Missing("No detection counts as right or wrong.")]
    text = (
        f"The expected calibration error is {found['error']:.3f}: by so much score and accuracy differ for a "
        f"detection on average. Right is what counts as right at IoU {found['iou']:.2f}; every detection "
        "counts, and most have low scores, so the error is mostly theirs."
    )
    scores = histogram("scores", "Scores", found["edges"], found["counts"], "score", "detections")
    return [Text(text), Drawings([_reliability(found), scores])]


def _reliability(found: dict[str, Any]) -> Drawing:
    edges, accuracy = (np.array(found[key], dtype=float) for key in ("edges", "accuracy"))
    widths = np.diff(edges)
    with sheet("reliability") as drawn:
        axes = drawn.axes
        axes.bar(edges[:-1] + widths / 2, accuracy, widths * 0.9, color=LINES[0], label="accuracy")
        axes.plot([0, 1], [0, 1], color=MUTED, ls="--", lw=1, label="calibrated")
        axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        legend_below(axes)
    bins = "; ".join(
        f"scores from {low:.1f}: {share:.0%} right"
        for low, share in zip(edges, accuracy, strict=False)
        if share == share
    )
    text = f"Reliability diagram, expected calibration error {found['error']:.3f}. {bins}."
    caption = "Bars above the dashed line: scores are too low. Below it: too high."
    return Drawing("reliability", "Score and accuracy", drawn.svg, text, caption)
