"""The curves of training: losses, gradients, rates and speed, from the log of the steps."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from detrkit.report.chart import Axis, Line, line_chart
from detrkit.report.content import Block, Drawing, Drawings, Heading, Missing, Section, Text
from detrkit.report.record import Record

Step = dict[str, Any]

_EPOCHS = Axis("epochs")

_MOST = 100
"""How many terms, groups and layers are drawn at most; no detector has as many."""

_LARGEST = np.finfo(np.float32).max
"""Of the numbers that training knows."""

_TERMS = {
    "classification": "Classification loss",
    "l1": "L1 of boxes",
    "giou": "Generalised IoU loss",
    "class_error": "Class error",
    "cardinality_error": "Cardinality error",
}
"""Titles of the terms that people know; others go by their own names."""

_MEANINGS = {
    "class_error": "Percent of matched queries whose best class is wrong.",
    "cardinality_error": "By how many objects an image is off.",
}


def training_section(records: Sequence[Record]) -> Section:
    """How training went: one run with a line per decoder layer, or several with a line for each."""
    blocks: list[Block] = [
        Missing(f"{record.name} has no training step in its log: {_why(record)}.")
        for record in records
        if not record.steps
    ]
    trained = [record for record in records if record.steps]
    if trained:
        blocks += _loss_blocks(trained)
        blocks += _pace_blocks(trained)
    return Section("training", "Training", blocks)


def _why(record: Record) -> str:
    return record.why.get("log.jsonl", "it ended before the first was done")


def _loss_blocks(records: Sequence[Record]) -> list[Block]:
    layers = max((len(values) for values in _terms_of(records[0]).values()), default=1)
    note = ""
    if layers > 1 and len(records) == 1:
        note = f"Terms are unweighted, for each of the {layers} decoder layers; the last is the answer."
    elif layers > 1:
        note = "Terms are unweighted, and those of the last decoder layer, which is the answer."
    drawings = [_of_runs("loss", "Loss", records, lambda step: step["loss"], "weighted sum", spread=True)]
    names = list(dict.fromkeys(name for record in records for name in _terms_of(record)))[:_MOST]
    drawings += [_term(name, records) for name in names]
    return [Heading("Losses"), *([Text(note)] if note else []), _drawn(drawings)]


def _drawn(drawings: Sequence[Drawing | None]) -> Drawings:
    """The charts of what the logs have."""
    return Drawings([drawing for drawing in drawings if drawing is not None])


def _terms_of(record: Record) -> dict[str, list[float]]:
    """The terms of all the steps by name, each with the values of one step."""
    terms: dict[str, list[float]] = {}
    for step in record.steps[:: max(1, len(record.steps) // 100)]:
        terms |= step.get("terms", {})
    return terms


def _term(name: str, records: Sequence[Record]) -> Drawing | None:
    title = _title(name)
    caption = _MEANINGS.get(name, "")
    layers = len(_terms_of(records[0]).get(name, []))
    key = f"term-{name.replace('_', '-')}"
    if len(records) == 1 and layers > 1:
        lines = [
            _line(records[0], f"layer {layer + 1}", lambda step, layer=layer: step["terms"][name][layer])
            for layer in range(layers)
        ]
        return line_chart(key, title, lines, _EPOCHS, Axis(""), caption=caption)
    return _of_runs(key, title, records, lambda step: step["terms"][name][-1], "", caption)


def _title(name: str) -> str:
    if name.startswith("denoising_"):
        return f"Denoising: {_title(name.removeprefix('denoising_'))}"
    return _TERMS.get(name, name.replace("_", " ").capitalize())


def _pace_blocks(records: Sequence[Record]) -> list[Block]:
    drawings = [
        *_groups("gradient-norm", "Gradient norm, before clipping", records, _gradient_norms, spread=True),
        *_groups("update", "Update relative to weights", records, _update_ratios, spread=True),
        *_groups("rate", "Learning rate", records, lambda step: step.get("learning_rates", {})),
    ]
    pace = [
        _of_runs("images", "Images per second", records, images_per_second, "", low=0.0),
        _of_runs(
            "waiting", "Time spent waiting for data", records, waiting_share, "share of the step", low=0.0
        ),
        _of_runs("memory", "Memory", records, memory_of, "GiB", low=0.0),
    ]
    return [Heading("Gradients and rates"), _drawn(drawings), Heading("Pace"), _drawn(pace)]


def _groups(
    key: str,
    title: str,
    records: Sequence[Record],
    values: Callable[[Step], dict[str, float]],
    *,
    spread: bool = False,
) -> Sequence[Drawing | None]:
    """A chart with a line per group of parameters of a run, or one per group where there are several runs."""
    found = [values(step) for record in records for step in record.steps]
    groups = list(dict.fromkeys(name for one in found for name in one))[:_MOST]
    if not groups:
        return []
    if len(records) == 1:
        lines = [_line(records[0], name, lambda step, name=name: values(step)[name]) for name in groups]
        return [line_chart(key, title, lines, _EPOCHS, Axis("", logarithmic=spread and _spans(lines)))]
    return [
        _of_runs(f"{key}-{number}", f"{title}: {name}", records, lambda step, name=name: values(step)[name])
        for number, name in enumerate(groups)
    ]


def _of_runs(
    key: str,
    title: str,
    records: Sequence[Record],
    value: Callable[[Step], float | None],
    unit: str = "",
    caption: str = "",
    *,
    low: float | None = None,
    spread: bool = False,
) -> Drawing | None:
    """A chart with a line per run, or None if no log has a value."""
    lines = [_line(record, record.name if len(records) > 1 else title, value) for record in records]
    if not any(len(line.y) for line in lines):
        return None
    upward = Axis(unit, low=low, logarithmic=spread and _spans(lines))
    return line_chart(key, title, lines, _EPOCHS, upward, caption=caption)


def _line(record: Record, label: str, value: Callable[[Step], float | None]) -> Line:
    """The finite values that the log has; a curve runs on where some steps have none."""
    epochs, values = _column(record, lambda step: step["epoch"]), _column(record, value)
    known = np.abs(values) <= _LARGEST
    return Line(label, epochs[known], values[known])


def _column(record: Record, value: Callable[[Step], float | None]) -> Float64[np.ndarray, " steps"]:
    """A figure of every step; nan where the log does not have it."""

    def known(step: Step) -> float:
        try:
            found = value(step)
        except (KeyError, IndexError, TypeError, ZeroDivisionError):
            return float("nan")
        return float("nan") if found is None else float(found)

    return np.fromiter(map(known, record.steps), np.float64, len(record.steps))


def _spans(lines: Sequence[Line]) -> bool:
    """Whether values differ so much that only a logarithmic axis shows them all."""
    values = np.concatenate([line.y for line in lines])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 30 * values.min())


def _gradient_norms(step: Step) -> dict[str, float]:
    """The norms by group of parameters, or the norm of all where a log has no more."""
    return step.get("gradient_norms") or {"all": step["gradient_norm"]}


def _update_ratios(step: Step) -> dict[str, float]:
    """How far a step moved each group of parameters, in the steps that measured it."""
    return step.get("update_ratios") or {}


def images_per_second(step: Step) -> float:
    """How fast a step went."""
    return step["images"] / step["seconds"]


def waiting_share(step: Step) -> float:
    """Which share of a step was spent waiting for data."""
    return step["data_seconds"] / step["seconds"]


def memory_of(step: Step) -> float | None:
    """GiB in use, if the log tells."""
    used = step.get("memory")
    return None if used is None else used / 2**30
