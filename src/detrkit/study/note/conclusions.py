"""What the measurements say, in sentences that follow from them alone.

A sentence names its figure and its 95 % interval. Where the interval holds 0, or measured times overlap, the
sentence says that the measurements do not tell the two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detrkit.benchmark.results import Results, Row, Spread
from detrkit.study.note.comparing import Pair


class Conclusion(NamedTuple):
    """A sentence about a question of the note."""

    question: str
    sentence: str


def accuracy_conclusions(
    comparison: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    trained: Mapping[str, Mapping[str, Any]],
) -> list[Conclusion]:
    """A sentence for each pair that was compared, in AP, and one more where AP50 says something else.

    What would mislead who reads the first alone follows it: a run that diverged, or saw few images.
    """
    found: list[Conclusion] = []
    for pair in comparison:
        both = [_verdict(pair, figure, evaluation) for figure in ("AP", "AP50")]
        notes = [note for name in (pair["name"], pair["against"]) for note in _notes(name, trained[name])]
        found.append(Conclusion(pair["question"], " ".join([both[0], *notes])))
        if _sign(pair["AP"]) != _sign(pair["AP50"]):
            found.append(Conclusion(pair["question"], both[1]))
    return found


def _notes(name: str, run: Mapping[str, Any]) -> list[str]:
    notes: list[str] = []
    if run["diverged"]:
        notes.append(f"{name} diverged after {run['steps']:,} steps.")
    if run["epochs"] < 1:
        notes.append(f"{name} saw {run['epochs']:.0%} of the images, once.")
    return notes


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


def lacking_conclusions(
    pairs: Sequence[Pair],
    comparison: Sequence[Mapping[str, Any]],
    trained: Mapping[str, Mapping[str, Any]],
) -> list[Conclusion]:
    """What was planned and not compared, since a run diverged before it had weights."""
    compared = {(pair["name"], pair["against"]) for pair in comparison}
    return [
        Conclusion(
            pair.question,
            f"{name} diverged after {trained[name]['steps']:,} steps, before it was validated, so that it is "
            f"not compared: {trained[name]['diverged']}",
        )
        for pair in pairs
        if (pair.name, pair.against) not in compared
        for name in (pair.name, pair.against)
        if name in trained and trained[name]["diverged"]
    ]


def tuning_conclusions(trials: Mapping[str, Any], planned: int, *, tuned: bool) -> list[Conclusion]:
    """Why no run has tuned settings, where none has; ``tuned`` says whether the plan has such a run."""
    if trials["settings"] is not None:
        return []
    if not planned:
        told = "The budget had no room for tuning, so that nothing is said about it."
    elif not tuned:
        told = "The plan has no run with tuned settings, so that nothing is said about them."
    elif trials["best"] is None:
        told = "No trial of the tuning came to its end, so that nothing is said about it."
    else:
        told = "Of all trials, that of the recipe's own settings was best, so they were kept."
    return [Conclusion("tuning", told)]


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
