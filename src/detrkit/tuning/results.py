"""What a study leaves for programs and for the next training: ``trials.json`` and ``best.toml``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial

from detrkit.settings.experiment import to_toml
from detrkit.tuning.outcome import Outcome, best_of, importance, outcomes, told
from detrkit.tuning.plan import Plan
from detrkit.tuning.request import Request
from detrkit.tuning.space import written


class Results(NamedTuple):
    """The study so far."""

    request: Request
    plan: Plan
    outcomes: list[Outcome]
    importance: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        best = best_of(self.outcomes)
        return {
            "command": self.request.command,
            "recipe": self.request.recipe,
            "searches": [written(search) for search in self.request.searches],
            "plan": self.plan._asdict(),
            "best": None if best is None else best.number,
            "importance": self.importance,
            "trials": [one.as_dict() for one in self.outcomes],
        }


def results_of(trials: Sequence[FrozenTrial], plan: Plan, request: Request) -> Results:
    """What is known from these trials."""
    return Results(request, plan, outcomes(trials, request.searches), importance(trials))


def write_results(results: Results, out: Path) -> None:
    """Write ``trials.json``, and once a trial has come to its end, ``best.toml``; each at once."""
    _write(out / "trials.json", json.dumps(results.as_dict(), indent=1) + "\n")
    best = best_of(results.outcomes)
    if best is not None:
        _write(out / "best.toml", best_recipe(results, best))


def best_recipe(results: Results, best: Outcome) -> str:
    """The recipe with the settings of a trial, as a file; its length is the recipe's, not the trial's."""
    request = results.request
    about = [
        f"{request.recipe} with the best of {len(results.outcomes)} trials' settings: {told(best.settings)}",
        f"AP {best.ap:.3f} after {best.steps} steps, from {request.command or 'detrkit tune'}",
    ]
    lines = [
        *(f"# {' '.join(line.split())}" for line in about),
        "",
        to_toml(request.experiment(best.settings)),
    ]
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)
