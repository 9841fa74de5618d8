"""What became of a run of a study, read from its folder, and which of several was best."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

from detrkit.errors import DetrkitError
from detrkit.monitoring.jsonl import read_log
from detrkit.reading import read_json
from detrkit.study.curve import Point, curve_of, last_loss

_DIVERGED = "diverged.json"
"""Stands in the folder of a run whose loss became infinite or not a number, and says so."""


class _Divergence(TypedDict):
    reason: str


T = TypeVar("T")


class Outcome(NamedTuple):
    """What was measured of a run. ``diverged`` is the reason where it ended early, else empty.

    ``steps``, ``epochs``, ``images`` and ``seconds`` are those of training that were done; ``loss`` is the
    mean of their last tenth, None where there was none.
    """

    rate: float
    steps: int
    epochs: float
    images: int
    seconds: float
    loss: float | None
    diverged: str
    curve: list[Point]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return self._asdict() | {"curve": [point._asdict() for point in self.curve]}


def is_over(folder: Path) -> bool:
    """Whether a run has ended, by its last step or by diverging."""
    log = folder / "log.jsonl"
    finished = log.exists() and any(line["event"] == "finished" for line in _log(folder)[-1:])
    return finished or (folder / _DIVERGED).exists()


def note_divergence(folder: Path, reason: str) -> None:
    """Write down that a run ended early, in one rename."""
    unfinished = folder / f".{_DIVERGED}.unfinished"
    unfinished.write_text(json.dumps({"reason": reason}) + "\n", "utf-8")
    unfinished.replace(folder / _DIVERGED)


def read_outcome(folder: Path, rate: float, images_per_step: int) -> Outcome:
    """What the log of a run that is over says."""
    log = _log(folder)
    steps = [line for line in log if line["event"] == "step"]
    diverged = folder / _DIVERGED
    return Outcome(
        rate=rate,
        steps=len(steps),
        epochs=steps[-1]["epoch"] if steps else 0.0,
        images=len(steps) * images_per_step,
        seconds=sum(line["seconds"] for line in steps),
        loss=last_loss(log),
        diverged=_reason(diverged) if diverged.exists() else "",
        curve=curve_of(log, images_per_step),
    )


def _log(folder: Path) -> list[dict[str, Any]]:
    return _read(folder / "log.jsonl", read_log)


def _reason(path: Path) -> str:
    return _read(path, lambda path: read_json(path, _Divergence))["reason"]


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise DetrkitError(
            f"{path} cannot be read ({error}): delete {path.parent}, and the run is done again."
        ) from None


def best_rate(recipe: str, sweep: Sequence[Outcome]) -> float:
    """The learning rate with the highest AP at the end, and among equal ones, the lowest loss.

    AP counts to three decimals, since what is below is not learning yet.

    Raises:
        DetrkitError: if all diverged.
    """
    usable = [outcome for outcome in sweep if not outcome.diverged]
    if not usable:
        tried = ", ".join(f"{outcome.rate:g}" for outcome in sweep)
        raise DetrkitError(
            f"{recipe} diverged with every learning rate of the sweep ({tried}): give lower ones with --rate "
            "and another --out."
        )
    return min(usable, key=_rank).rate


def _rank(outcome: Outcome) -> tuple[float, float]:
    loss = float("inf") if outcome.loss is None else outcome.loss
    ap = outcome.curve[-1].AP if outcome.curve else -1.0
    return -round(ap, 3), loss
