"""What a study found: every run's curve, and when it reached a part of the best AP of all recipes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from detrkit.study.curve import Point, best_point, first_with
from detrkit.study.outcome import Outcome
from detrkit.study.plan import Plan

LEVELS = (50, 75, 90)
"""Percent of the best AP."""


class Row(NamedTuple):
    """A run at a recipe's best rate, and the first validation at each level, None where there is none."""

    recipe: str
    longer: bool
    outcome: Outcome
    reached: dict[int, Point | None]

    @property
    def best(self) -> Point | None:
        """The validation with the highest AP."""
        return best_point(self.outcome.curve)


class Results(NamedTuple):
    """All that was measured. ``best_ap`` is that of the full runs, None where none is above 0."""

    plan: Plan
    sweeps: Mapping[str, list[Outcome]]
    best_ap: float | None
    rows: list[Row]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "command": self.plan.request.command,
            "machine": self.plan.machine,
            "best_ap": self.best_ap,
            "levels": {} if self.best_ap is None else levels(self.best_ap),
            "sweeps": {name: [run.as_dict() for run in sweep] for name, sweep in self.sweeps.items()},
            "runs": [_plain(row) for row in self.rows],
        }


def compare(
    plan: Plan,
    sweeps: Mapping[str, list[Outcome]],
    full: Mapping[str, Outcome],
    longer: Mapping[str, Outcome],
) -> Results:
    """Every full and every longer run against the best AP of the full ones."""
    best = best_point([point for outcome in full.values() for point in outcome.curve])
    best_ap = best.AP if best is not None and best.AP > 0 else None
    rows = [_row(recipe, False, outcome, best_ap) for recipe, outcome in full.items()]
    rows += [_row(recipe, True, outcome, best_ap) for recipe, outcome in longer.items()]
    return Results(plan, sweeps, best_ap, rows)


def levels(best_ap: float) -> dict[int, float]:
    """The AP of each level."""
    return {level: level / 100 * best_ap for level in LEVELS}


def _row(recipe: str, longer: bool, outcome: Outcome, best_ap: float | None) -> Row:
    if best_ap is None:
        return Row(recipe, longer, outcome, dict.fromkeys(LEVELS))
    reached = {level: first_with(outcome.curve, ap) for level, ap in levels(best_ap).items()}
    return Row(recipe, longer, outcome, reached)


def _plain(row: Row) -> dict[str, Any]:
    reached = {str(level): None if point is None else point._asdict() for level, point in row.reached.items()}
    return {"recipe": row.recipe, "longer": row.longer, **row.outcome.as_dict(), "reached": reached}
