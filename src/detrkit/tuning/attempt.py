"""A trial, as the code that trains it sees it."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna.exceptions import TrialPruned
from optuna.trial import Trial

from detrkit.tuning.plan import Plan
from detrkit.tuning.value import value_of

CURVE = "curve"
"""Beside a trial: the step, the AP and the loss of each of its validations."""


class Attempt:
    """A trial's number and settings; ``report`` is told of each validation, and ends a trial in vain."""

    def __init__(self, trial: Trial, settings: Mapping[str, Any], plan: Plan) -> None:
        self.number = trial.number
        self.settings = settings
        self.value: float | None = None
        self._trial = trial
        self._plan = plan
        self._curve: list[tuple[int, float, float]] = []

    def report(self, step: int, ap: float, loss: float) -> None:
        """Note a validation.

        Raises:
            TrialPruned: where the trial is not among those that go on.
        """
        self.value = value_of(ap, loss)
        self._curve.append((step, ap, loss))
        self._trial.set_user_attr(CURVE, self._curve)
        self._trial.report(self.value, step)
        if step < self._plan.whole and self._trial.should_prune():
            raise TrialPruned


Objective = Callable[[Attempt], None]
"""Carries a trial out, reporting its validations, of which the last one counts."""
