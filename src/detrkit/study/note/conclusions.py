"""What the measurements say, in sentences that follow from them alone.

A sentence names its figure and its 95 % interval. Where the interval holds 0, or measured times overlap, the
sentence says that the measurements do not tell the two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detrkit.benchmark.results import Results, Row, Spread


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


def time_conclusions(results: Results, base: str) -> list[Conclusion]:
    """A sentence for each that was timed beside the base: its measured time for an image, one at a time."""
    timed = [row for row in results.rows if "fp32" in row.speed]
    first = next((row for row in timed if row.name == base), None)
    if first is None:
        return []
    return [Conclusion("times", _slower(row, first)) for row in timed if row.name != base]


def _slower(row: Row, base: Row) -> str:
    mine, other = row.speed["fp32"].turns, base.speed["fp32"].turns
    told = (
        f"{_milliseconds(mine)} for an image against {_milliseconds(other)}, from its file to its detections "
        "in float32"
    )
    if mine.low > other.high:
        return f"{row.name} is slower than {base.name}: {told}."
    if mine.high < other.low:
        return f"{row.name} is faster than {base.name}: {told}."
    return f"These measured times do not tell {row.name} and {base.name} apart: {told}."


def _milliseconds(spread: Spread) -> str:
    low, median, high = (1000 * value for value in (spread.low, spread.median, spread.high))
    return f"{median:.1f} ms (turns from {low:.1f} to {high:.1f})"


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
