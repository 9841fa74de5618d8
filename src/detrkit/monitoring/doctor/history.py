"""The course of training, from the lines of its log."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detrkit.monitoring.doctor.facts import Checkup, Course, Stretch
from detrkit.monitoring.instability import Instability, instabilities

STRETCHES = 40
"""Into how many pieces a log is cut: enough for a change point, few enough that each is a steady median."""

_FIRST = 5
"""How many steps the loss at the start is the median of."""

Line = dict[str, Any]


def course_of(lines: Sequence[Line], steps: int | None = None) -> Course:
    """How a run went whose log has these lines; ``steps`` is its planned length, if it is known."""
    taken = [line for line in lines if line["event"] == "step"]
    failed = [str(line.get("error", "")) for line in lines if line["event"] == "failed"]
    broken = next((line["step"] for line in taken if not np.isfinite(line["loss"])), None)
    error = failed[-1] if failed else "" if broken is None else f"the loss of step {broken} is not finite"
    known = [line for line in taken if np.isfinite(line["loss"])]
    validations = [line for line in lines if line["event"] == "validation"]
    return Course(
        steps=steps or (taken[-1]["step"] if taken else 0),
        first_loss=_median(known[:_FIRST], lambda line: line["loss"]),
        stretches=[_stretch(piece) for piece in _pieces(known)],
        checkups=list(map(_checkup, validations, instabilities(validations))),
        error=error,
        images=taken[-1].get("images", 0) if taken else 0,
    )


def _pieces(lines: Sequence[Line]) -> list[Sequence[Line]]:
    edges = np.unique(np.linspace(0, len(lines), min(STRETCHES, len(lines)) + 1).astype(int)).tolist()
    return [lines[start:end] for start, end in itertools.pairwise(edges)]


def _stretch(lines: Sequence[Line]) -> Stretch:
    measured = [line["update_ratios"] for line in lines if line.get("update_ratios")]
    seconds = sum(line.get("seconds") or 0.0 for line in lines)
    waited = sum(line.get("data_seconds") or 0.0 for line in lines)
    return Stretch(
        last=lines[-1]["step"],
        loss=_median(lines, lambda line: line["loss"]),
        terms=_terms(lines),
        norm=_median(lines, lambda line: line.get("gradient_norm", 0.0)),
        ratios={
            name: _median([one[name] for one in measured if name in one], float)
            for name in dict(*measured[:1])
        },
        rates=dict(lines[-1].get("learning_rates", {})),
        waiting=waited / seconds if seconds else 0.0,
    )


def _terms(lines: Sequence[Line]) -> dict[str, list[float]]:
    """The medians of the answers' terms; those of denoising and of further groups are left out."""
    found: list[dict[str, list[float]]] = [line.get("terms", {}) for line in lines]
    names = [name for name in found[0] if not name.startswith(("denoising_", "group_"))]
    return {
        name: np.median([terms[name] for terms in found], axis=0).tolist()
        for name in names
        if all(len(terms.get(name, ())) == len(found[0][name]) for terms in found)
    }


def _checkup(line: Line, changed: Instability | None) -> Checkup:
    raw = (line.get("raw") or {}).get("AP")
    return Checkup(line["step"], line["metrics"]["AP"], line["metrics"]["AP50"], raw, changed)


def _median(values: Sequence[Any], of: Callable[[Any], float]) -> float:
    found = [of(value) for value in values]
    return float(np.median(found)) if found else 0.0
