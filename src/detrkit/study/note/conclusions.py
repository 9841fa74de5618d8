"""What the measurements say, in sentences that follow from them alone.

A sentence names its figure and its 95 % interval. Where the interval holds 0, or measured times overlap, the
sentence says that the measurements do not tell the two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Conclusion(NamedTuple):
    """A sentence about a question of the note."""

    question: str
    sentence: str


def accuracy_conclusions(
    comparison: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]
) -> list[Conclusion]:
    """A sentence for each pair that was compared, in AP, and one more where AP50 says something else."""
    found: list[Conclusion] = []
    for pair in comparison:
        both = [_verdict(pair, figure, evaluation) for figure in ("AP", "AP50")]
        found.append(Conclusion(pair["question"], both[0]))
        if _sign(pair["AP"]) != _sign(pair["AP50"]):
            found.append(Conclusion(pair["question"], both[1]))
    return found


def lacking_conclusions(trials: Mapping[str, Any] | None, planned: int) -> list[Conclusion]:
    """What was not compared, and why."""
    if trials is None or trials["settings"] is not None:
        return []
    if not planned:
        return [Conclusion("tuning", "The budget had no room for tuning, so that nothing is said about it.")]
    if trials["best"] is None:
        return [
            Conclusion("tuning", "No trial of the tuning came to its end, so that nothing is said about it.")
        ]
    return [
        Conclusion("tuning", "Of all trials, that of the recipe's own settings was best, so they were kept.")
    ]


def _verdict(pair: Mapping[str, Any], figure: str, evaluation: Mapping[str, Any]) -> str:
    name, against, found = pair["name"], pair["against"], pair[figure]
    values = f"{evaluation[name][figure]:.3f} against {evaluation[against][figure]:.3f}"
    if found["above"] == -1:
        return f"{name} and {against} cannot be compared, since the validation split has no objects."
    told = (
        f"{figure} {values}, a difference of {found['value']:+.3f} "
        f"(95 % from {found['low']:+.3f} to {found['high']:+.3f})"
    )
    match _sign(found):
        case 0:
            return f"These measurements do not tell {name} and {against} apart: {told}."
        case 1:
            return f"{name} is better than {against}: {told}."
        case _:
            return f"{name} is worse than {against}: {told}."


def _sign(found: Mapping[str, float]) -> int:
    """1 where the whole interval is above 0, -1 where it is below, 0 where it holds 0."""
    return int(found["low"] > 0) - int(found["high"] < 0)
