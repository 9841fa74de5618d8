"""A run's validations as a curve, read from its log, and what can be asked of it."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple


class Point(NamedTuple):
    """What a validation found, and what training had taken until then.

    ``seconds`` are those of the optimiser steps with their waiting for data; validations and saves are
    not in them. ``epoch`` is how often every image was seen.
    """

    step: int
    epoch: float
    images: int
    seconds: float
    AP: float
    AP50: float


def curve_of(log: Sequence[dict[str, Any]], images_per_step: int) -> list[Point]:
    """The validations in the lines of a run's log, in order."""
    elapsed = accumulate(line["seconds"] if line["event"] == "step" else 0.0 for line in log)
    return [
        Point(
            step=line["step"],
            epoch=line["epoch"],
            images=line["step"] * images_per_step,
            seconds=seconds,
            AP=line["metrics"]["AP"],
            AP50=line["metrics"]["AP50"],
        )
        for line, seconds in zip(log, elapsed, strict=True)
        if line["event"] == "validation"
    ]


def first_with(curve: Sequence[Point], ap: float) -> Point | None:
    """The first validation that found at least ``ap``; nothing is read between two validations."""
    return next((point for point in curve if ap <= point.AP), None)


def best_point(curve: Sequence[Point]) -> Point | None:
    """The validation with the highest AP, the first of several; None where there is none."""
    return max(curve, key=lambda point: point.AP, default=None)


def last_loss(log: Sequence[dict[str, Any]]) -> float | None:
    """The mean loss of the last tenth of a run's steps, since a single step's is mostly its images."""
    losses = [line["loss"] for line in log if line["event"] == "step"]
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else None
