"""What became of a study's trials, as plain values."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from detrkit.tuning.attempt import CURVE
from detrkit.tuning.propose import settings_of
from detrkit.tuning.space import Search, word_of
from detrkit.tuning.standing import REASON, SURPLUS, Fate, fate_of, steps_taken

_ENOUGH = 8
"""Trials from which the importance of settings can be told at all."""

_BEST = 5
"""PED-ANOVA compares at least so many of the best with the rest."""


class Point(NamedTuple):
    """A validation of a trial; ``loss`` is the mean of its last steps."""

    step: int
    AP: float
    loss: float


class Outcome(NamedTuple):
    """A trial. ``value`` is that of its last validation, None before it; ``reason`` is why it failed."""

    number: int
    fate: Fate
    settings: dict[str, Any]
    value: float | None
    curve: list[Point]
    reason: str
    seconds: float | None

    @property
    def steps(self) -> int:
        """The steps until its last validation."""
        return self.curve[-1].step if self.curve else 0

    @property
    def ap(self) -> float | None:
        """The AP of its last validation."""
        return self.curve[-1].AP if self.curve else None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return self._asdict() | {"curve": [point._asdict() for point in self.curve]}


def outcomes(trials: Sequence[FrozenTrial], searches: Sequence[Search]) -> list[Outcome]:
    """The trials in order, without those that were given back."""
    return [outcome_of(trial, searches) for trial in trials if SURPLUS not in trial.user_attrs]


def outcome_of(trial: FrozenTrial, searches: Sequence[Search]) -> Outcome:
    """What is known of a trial."""
    values = trial.intermediate_values
    return Outcome(
        number=trial.number,
        fate=fate_of(trial),
        settings=settings_of(searches, trial.params),
        value=values[steps_taken(trial)] if values else None,
        curve=[Point(*point) for point in trial.user_attrs.get(CURVE, [])],
        reason=trial.user_attrs.get(REASON, ""),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
    )


def best_of(found: Sequence[Outcome]) -> Outcome | None:
    """The best of the trials that came to their end, the first of equal ones; None while there is none."""
    ended = [one for one in found if one.fate == "ended"]
    return max(ended, key=lambda one: (one.value, -one.number), default=None)


def importance(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """How much it depends on each setting whether a trial is among the best: shares of 1, largest first.

    PED-ANOVA (Watanabe et al. 2023) over all trials, ranked by how far they came and then by value; failed
    ones are the last. Empty where the trials are too few.
    """
    ranked = sorted((trial for trial in trials if fate_of(trial) in ("ended", "pruned", "failed")), key=_rank)
    if len(ranked) < _ENOUGH:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        create_trial(
            state=TrialState.COMPLETE,
            params=trial.params,
            distributions=trial.distributions,
            value=float(rank),
        )
        for rank, trial in enumerate(ranked)
    )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _BEST / len(ranked))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=evaluator)


def told(settings: Mapping[str, Any]) -> str:
    """Settings in a line."""
    return ", ".join(f"{name} {word_of(value)}" for name, value in settings.items())


def _rank(trial: FrozenTrial) -> tuple[int, float, int]:
    steps = steps_taken(trial)
    if fate_of(trial) == "failed" or not steps:
        return 0, 0.0, -trial.number
    return steps, trial.intermediate_values[steps], -trial.number
