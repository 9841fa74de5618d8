"""Training: how long each run was, how AP and loss went, and what the tuning found."""

import numpy as np

from detrkit.report.chart import Axis, Line, line_chart
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
from detrkit.study.curve import best_point, first_with
from detrkit.study.note.chapters.found import Found
from detrkit.study.note.shares import JUDGED_IMAGES
from detrkit.study.results import LEVELS
from detrkit.tuning.space import word_of


def training_chapter(found: Found) -> Section:
    """Plan and measured times of the runs, their curves, and the trials."""
    blocks: list[Block] = [
        _length(found),
        Heading("Average precision"),
        Text(_MEANING),
        Drawings(_curves(found)),
    ]
    soonest = _soonest(found)
    if soonest.rows:
        blocks.append(soonest)
    losses = _losses(found)
    if losses:
        blocks += [Heading("Loss"), Text(_LOSSES), Drawings(losses)]
    return Section("training", "Training", [*blocks, Heading("Tuning"), *_trials(found)])


_MEANING = (
    "On the validation split, over the seconds of optimiser steps with their waiting for data. The seconds "
    "are measured times; validations and saves are not in them."
)

_LOSSES = (
    "The weighted sum. Only the same losses compare: those of the base, of its backbones and tuned settings."
)


def _length(found: Found) -> Table:
    columns = [
        Column("Run"),
        Column("Steps", "count"),
        Column("Epochs", "number"),
        Column("Planned seconds", "number", "of the steps alone"),
        Column("Measured seconds", "number", "a measured time, of the steps alone"),
        Column("Validations", "count"),
        Column("Learning rate", "number"),
        Column("End"),
    ]
    rows: list[list[Value]] = []
    for name, run in found.trained.items():
        amount = found.plan.runs[name].amount
        planned = None if amount.seconds is None else round(amount.seconds, 1)
        end = f"diverged: {run['diverged']}" if run["diverged"] else "finished"
        measured = [run["steps"], run["epochs"], planned, round(run["seconds"], 1), len(run["curve"])]
        rows.append([name, *measured, run["rate"], end])
    caption = "All runs have the same planned seconds, and the steps that fit into them at the measured pace."
    if found.plan.asked["budget"] is None:
        caption = "Every run has its recipe's own length."
    return Table(caption, columns, rows)


def _curves(found: Found) -> list[Drawing]:
    drawings = []
    for number, (title, names) in enumerate(found.groups().items()):
        lines = []
        for name in names:
            curve = found.curve(name)
            seconds, found_ap = [point.seconds for point in curve], [max(point.AP, 0.0) for point in curve]
            lines.append(Line(name, np.array([0.0, *seconds]), np.array([0.0, *found_ap])))
        axes = Axis("seconds of training"), Axis("AP", low=0.0)
        drawings.append(line_chart(f"curve-{number}", title, lines, *axes, markers=True))
    return drawings


def _soonest(found: Found) -> Table:
    """When each run of a group had a part of the best AP of its group."""
    rows: list[list[Value]] = []
    for title, names in found.groups().items():
        curves = {name: found.curve(name) for name in names}
        best = best_point([point for curve in curves.values() for point in curve])
        if best is None or best.AP <= 0:
            continue
        for name, curve in curves.items():
            own = best_point(curve)
            reached = [first_with(curve, level / 100 * best.AP) for level in LEVELS]
            epochs = [None if point is None else point.epoch for point in reached]
            rows.append([name, title, None if own is None else own.AP, *epochs])
    columns = [Column("Run"), Column("Compared among"), Column("Best AP", "fraction")]
    columns += [Column(f"{level} %", "number") for level in LEVELS]
    return Table("Epochs until a validation found a part of the best AP of its group.", columns, rows)


def _losses(found: Found) -> list[Drawing]:
    alike = [name for name in found.records if found.plan.runs[name].role not in ("decoder", "classical")]
    lines = []
    for name in alike:
        steps = found.records[name].steps
        epochs, loss = [step["epoch"] for step in steps], [step["loss"] for step in steps]
        lines.append(Line(name, np.array(epochs, float), np.array(loss, float)))
    lines = [line for line in lines if len(line.x)]
    return [line_chart("loss", "Loss", lines, Axis("epochs"), Axis(""))] if lines else []


def _trials(found: Found) -> list[Block]:
    tuned, planned = found.results["trials"], found.plan.trials
    if not tuned["trials"]:
        return [Missing("There was no tuning: the budget had no room for it, or the plan has no such run.")]
    names = [search["name"] for search in tuned["searched"]]
    rows: list[list[Value]] = [
        [one["number"], _last(one, "AP"), _last(one, "loss"), _last(one, "step")]
        + [one["settings"].get(name) for name in names]
        + [one["fate"], one["reason"]]
        for one in tuned["trials"]
    ]
    columns = [Column("Trial", "count"), Column("AP", "fraction"), Column("Loss", "number")]
    columns += [Column("Steps", "count"), *(Column(name, "number") for name in names)]
    columns += [Column("Fate"), Column("Reason")]
    best = "No trial came to its end." if tuned["best"] is None else f"The best was trial {tuned['best']}"
    if tuned["settings"] is not None:
        best += (
            ": " + ", ".join(f"{name} {word_of(value)}" for name, value in tuned["settings"].items()) + "."
        )
    elif tuned["best"] is not None:
        best += ", whose settings are the recipe's own."
    text = (
        f"{planned.number} trials of {planned.steps:,} steps at most, of which the worse half is ended "
        "early at each comparison. Trial 0 has the recipe's own settings. Trials are judged on at most "
        f"{JUDGED_IMAGES} validation images."
    )
    return [Text(text), Text(best), Table("All trials", [*columns], rows, sortable=True)]


def _last(trial: dict, key: str) -> Value:
    """Of a trial's last validation."""
    return trial["curve"][-1][key] if trial["curve"] else None
