"""What a budget becomes: the steps and validations of every run, and the trials of the tuning.

Each run has one share of the time that is left when the paces are known, the tuning two, and evaluation and
benchmark two together. So all runs have the same planned seconds. The numbers of steps follow from the
paces, once; from then on only steps count.
"""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.training.schedule import plan as length_of
from detrkit.tuning.pace import Pace
from detrkit.tuning.plan import PARTS, plan_within, whole_trials

TUNING, JUDGING = 2, 2
"""Shares of the tuning, and of evaluation and benchmark, where a run has one."""

MOST_VALIDATIONS, VALIDATING = 12, 5
"""Validations of a run at most, which take at most a fifth of its time where there are several."""

MOST_TRIALS, FEWEST_TRIALS = 20, 4

TRIAL = 5
"""A trial is at least a fifth as long as the run that its settings are for."""

FULL_TRIALS, FULL_TRIAL = 12, 10
"""The trials of a full note, and which part of the run's steps each has."""

JUDGED_IMAGES = 100
"""Trials are validated on at most so many images, since there are many validations of them."""


class Amount(NamedTuple):
    """How long a run is. ``seconds`` are planned, those of start and validations included; None without a
    budget.
    """

    steps: int
    validations: int
    seconds: float | None


class Trials(NamedTuple):
    """The trials of the tuning and the steps of each that is not ended early; no trials where there is no
    room for some.
    """

    number: int
    steps: int


def share_of(seconds: float, runs: int, tuning: bool) -> float:
    """The seconds of a run, where so many and the tuning share the time."""
    return seconds / (runs + TUNING * tuning + JUDGING)


def amount_within(seconds: float, pace: Pace) -> Amount:
    """What fits into the seconds: steps, and the validations among them, the last of which ends the run.

    Raises:
        DetrkitError: where not a single step does.
    """
    affordable = int(seconds / VALIDATING / pace.validation) if pace.validation > 0 else MOST_VALIDATIONS
    validations = max(1, min(MOST_VALIDATIONS, affordable))
    steps = int((seconds - pace.start - validations * pace.validation) / pace.step)
    if steps < 1:
        least = pace.start + validations * pace.validation + pace.step
        raise DetrkitError(
            f"--budget leaves {seconds:.1f} s for each run, but one that starts, takes a step and is "
            f"validated takes {least:.1f} s here: give more time."
        )
    return Amount(steps, min(validations, steps), seconds)


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


def planned_seconds(amounts: Mapping[str, Amount]) -> float:
    """The seconds of all runs together."""
    return sum(amount.seconds or 0.0 for amount in amounts.values())
