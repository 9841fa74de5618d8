"""What has become of trials, and whether a study is over."""

from collections.abc import Sequence
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from detrkit.tuning.plan import Plan

REASON = "reason"
"""Beside a trial that failed: why. One without has only lost its worker."""

SURPLUS = "surplus"
"""Beside a trial that was begun at the same moment as the last one, and given back."""

Fate = Literal["ended", "pruned", "failed", "lost", "running"]

FATES: dict[Fate, str] = {
    "ended": "trained to its end",
    "pruned": "ended early, as not in the better half",
    "failed": "failed by its own fault",
    "lost": "its worker was stopped or is gone; another took its place",
    "running": "still running",
}
"""What became of a trial, and what that means."""


def fate_of(trial: FrozenTrial) -> Fate:
    """What became of a trial."""
    match trial.state:
        case TrialState.COMPLETE:
            return "ended"
        case TrialState.PRUNED:
            return "pruned"
        case TrialState.FAIL:
            return "failed" if REASON in trial.user_attrs else "lost"
        case _:
            return "running"


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial's place is free again."""
    return fate_of(trial) == "lost"


def taken(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count."""
    return [trial for trial in trials if not is_lost(trial)]


def next_step(trials: Sequence[FrozenTrial], plan: Plan, wanted: int) -> Literal["begin", "wait", "done"]:
    """What a worker does next: a trial, wait for those of others, or leave.

    A trial is begun where the plan's total has room for a whole one, whatever those that run will need.
    """
    counted = taken(trials)
    if len(counted) < wanted and _has_room(trials, plan):
        return "begin"
    return "wait" if any(fate_of(trial) == "running" for trial in counted) else "done"


def steps_taken(trial: FrozenTrial) -> int:
    """The steps that a trial is known to have made, at its last validation."""
    return max(trial.intermediate_values, default=0)


def _has_room(trials: Sequence[FrozenTrial], plan: Plan) -> bool:
    if plan.total is None:
        return True
    running = [trial for trial in trials if fate_of(trial) == "running"]
    over = [trial for trial in trials if fate_of(trial) != "running"]
    reserved = len(running) * plan.steps
    return sum(map(steps_taken, over)) + reserved + plan.steps <= plan.total
