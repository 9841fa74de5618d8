"""What a budget becomes: the steps and validations of every run, and the trials of the tuning.

Starts and validations come first. Each run has one share of what then is left, the tuning two, and evaluation
and benchmark one together. So all runs have the same planned seconds of training steps. The numbers of steps
follow from the paces, once; from then on only steps count.
"""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.training.schedule import plan as length_of
from detrkit.tuning.pace import Pace
from detrkit.tuning.plan import PARTS, plan_within, whole_trials

TUNING, JUDGING = 2, 1
"""Shares of the tuning, and of evaluation and benchmark, where a run has one."""

MOST_VALIDATIONS, VALIDATING = 12, 5
"""Validations of a run at most; where there are several, they take at most a fifth of a share."""

MOST_TRIALS, FEWEST_TRIALS = 20, 4

TRIAL = 5
"""A trial is at least a fifth as long as the run that its settings are for."""

FULL_TRIALS, FULL_TRIAL = 12, 10
"""The trials of a full note, and which part of the run's steps each has."""

JUDGED_IMAGES = 100
"""Trials are validated on at most so many images, since there are many validations of them."""


class Amount(NamedTuple):
    """How long a run is. ``seconds`` are planned for its steps alone; None without a budget."""

    steps: int
    validations: int
    seconds: float | None


class Trials(NamedTuple):
    """The trials of the tuning and the steps of each that is not ended early; no trials where there is no
    room for some.
    """

    number: int
    steps: int


def amounts_within(seconds: float, paces: Mapping[str, Pace], shares: int) -> dict[str, Amount]:
    """What fits into the seconds for all runs, each of which has one of so many shares of them.

    Raises:
        DetrkitError: where some run has no time for a step.
    """
    validations = {name: _validations(seconds / shares, pace) for name, pace in paces.items()}
    aside = sum(pace.start + validations[name] * pace.validation for name, pace in paces.items())
    share = (seconds - aside) / shares
    slowest = max(paces, key=lambda name: paces[name].step)
    if share < paces[slowest].step:
        least = aside + shares * paces[slowest].step
        raise DetrkitError(
            f"--budget has {seconds:.0f} s left for {len(paces)} runs, whose starts and validations take "
            f"{aside:.0f} s, and a step of {slowest} takes {paces[slowest].step:.1f} s: give at least "
            f"{least:.0f} s more than the measuring took, or plan for less with --set or --backbones."
        )
    steps = {name: int(share / pace.step) for name, pace in paces.items()}
    return {name: Amount(steps[name], min(validations[name], steps[name]), share) for name in paces}


def _validations(seconds: float, pace: Pace) -> int:
    affordable = int(seconds / VALIDATING / pace.validation) if pace.validation > 0 else MOST_VALIDATIONS
    return max(1, min(MOST_VALIDATIONS, affordable))


def trials_within(seconds: float, run_steps: int, pace: Pace, val_images: int, train_images: int) -> Trials:
    """As many trials as fit, each at least a fifth as long as the run that they are for."""
    judged = pace._replace(validation=pace.validation * min(1.0, JUDGED_IMAGES / val_images))
    for number in range(MOST_TRIALS, FEWEST_TRIALS - 1, -1):
        fixed = number * judged.start + whole_trials(number) * PARTS * judged.validation
        if seconds <= fixed + whole_trials(number) * PARTS * judged.step:
            continue
        steps = plan_within(seconds, number, judged, train_images).steps
        if steps * TRIAL >= run_steps:
            return Trials(number, min(steps, run_steps))
    return Trials(0, 0)


def full_amount(settings: Experiment, train_images: int) -> Amount:
    """The recipe's own length, with a validation after each epoch."""
    images_per_step = settings.data.batch_size * settings.train.accumulate
    steps = length_of(settings.train, train_images, images_per_step).steps
    epochs = ceil(steps * images_per_step / train_images)
    return Amount(steps, max(1, min(epochs, steps)), None)


def full_trials(run_steps: int) -> Trials:
    """The trials of a full note."""
    return Trials(FULL_TRIALS, max(1, run_steps // FULL_TRIAL))
