"""How long trials are, and when they are compared.

Successive halving (Li et al. 2018, "Massively Parallel Hyperparameter Tuning"): after an eighth, a quarter
and a half of its steps, a trial goes on if it is in the better half of those that came so far. No more are
ended at once since the first comparison is by the first traces of an AP, or by the loss. A time budget
becomes steps once, by what a step took on the machine that began the study; from then on only steps count.
"""

from typing import NamedTuple

from detrkit.errors import DetrkitError

REDUCTION = 2
"""One of so many goes on."""

COMPARISONS = 3
"""Of trials that are not at their end: after 1, 2 and 4 parts, the powers of the reduction."""

PARTS = REDUCTION**COMPARISONS
"""A trial is validated so many times, at equal distances."""

_MARGIN = 1.6
"""So much more than with blind proposals, since more trials go on where later ones are better: on known
functions, 0.7 to 1.6 times as much."""


class Pace(NamedTuple):
    """What a trial takes, in seconds: until its first step, for a step, and for a validation."""

    start: float
    step: float
    validation: float


class Plan(NamedTuple):
    """The steps of a trial that is not ended early, and of all trials together, None where these have no end.

    ``train_images`` is what the dataset has.
    """

    steps: int
    total: int | None
    train_images: int

    @property
    def part(self) -> int:
        """Steps from one validation to the next."""
        return max(1, self.steps // PARTS)

    @property
    def whole(self) -> int:
        """Steps from which on a trial is no longer ended, since what is left is less than a part."""
        return min(self.steps, self.part * PARTS)


def plan_of_recipe(steps: int, train_images: int) -> Plan:
    """Trials as long as the recipe's runs."""
    return Plan(steps, None, train_images)


def plan_within(seconds: float, trials: int, pace: Pace, train_images: int) -> Plan:
    """Trials of a length that lets so many end in time, if as many as usual are ended early.

    Raises:
        DetrkitError: where the time is too short for a step between validations.
    """
    whole = whole_trials(trials)
    fixed = trials * pace.start + whole * PARTS * pace.validation
    part = int((seconds - fixed) / (whole * PARTS * pace.step))
    if part < 1:
        least = fixed + whole * PARTS * pace.step
        raise DetrkitError(
            f"--budget has {seconds:.0f} s left for {trials} trials, which take {least:.0f} s even if they "
            "are as short as can be: give more time or fewer --trials."
        )
    steps = part * PARTS
    return Plan(steps, int(whole * steps), train_images)


def whole_trials(trials: int) -> float:
    """How many whole trials so many cost, with better and better proposals, and room for the last."""
    blind, here, paid = 0.0, float(trials), 0
    for comparison in range(COMPARISONS + 1):
        until = REDUCTION**comparison
        blind += here * (until - paid) / PARTS
        here, paid = _going_on(round(here)), until
    return min(float(trials), _MARGIN * blind + 1)


def _going_on(arrivals: int) -> float:
    """How many of so many arrivals at a comparison go on, if their values come in no order.

    Of the first few only the best so far does.
    """
    return sum(max(1, number // REDUCTION) / number for number in range(1, arrivals + 1))
