"""A learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3): the loss at rising rates.

The run's own first steps are taken, with its images, clipping and weight decay, while the rates of all groups
rise by the same factor from step to step. Where the loss falls, something is learned; where it turns up, the
rate is too high.
"""

import logging
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.training.optimise import set_rates
from detrkit.training.prepare import Run, prepare
from detrkit.training.step import NonFiniteLossError, agree, take_step, to_device

logger = logging.getLogger(__name__)

LOWEST, HIGHEST = 1e-7, 1.0
"""Between which rates of everything but the backbone the test looks."""
STEPS = 200
"""How many steps the test has at most: 7 decades of rates, of which neighbours differ by 8 %."""
SMOOTHING = 0.95
"""What the moving average of the loss keeps; it is unbiased, as Adam's are."""
DIVERGED = 2.0
"""Times its lowest at which the smoothed loss has turned up, and the test ends."""
BELOW = 10.0
"""How far below the turning point the suggestion lies, as is usual: near it, training is at the edge."""


class RangeTest(NamedTuple):
    """The loss at every rate that was tried, as it was and smoothed; ``backbone`` is its rate's share.

    ``suggestion`` is a tenth of the rate where the smoothed loss is lowest; None where it never fell by 2 %.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    backbone: float
    suggestion: float | None


def find_rate(experiment: Experiment, data: Path, init: Path | None = None) -> RangeTest:
    """The loss of 200 steps at rising rates, from the weights that a run would begin with.

    There are fewer where `train.max_steps` is less. Nothing is kept: a run that follows begins anew.

    Raises:
        DetrkitError: where the data, the settings or the weights are at fault.
    """
    if experiment.train.precision == "fp16":
        raise DetrkitError(
            "train.precision is fp16, whose steps are skipped until its scale is found: take bf16 or fp32 "
            "for "
            "--find-lr, whose answer is the same."
        )
    steps = min(experiment.train.max_steps or STEPS, STEPS)
    limited = experiment.train.model_copy(update={"budget": None, "max_steps": steps})
    with TemporaryDirectory() as folder:
        settings = experiment.model_copy(update={"train": limited})
        run = prepare(settings, data, Path(folder) / "run", False, init, lambda run: steps)
        rates, losses = _climb(run, steps)
    share = experiment.optim.backbone_lr / experiment.optim.lr
    smoothed = smooth(losses)
    return RangeTest(rates, losses, smoothed, share, suggest(rates, smoothed))


def _climb(run: Run, steps: int) -> tuple[list[float], list[float]]:
    """The rates and losses of steps, up to the one where the loss has turned up or is no number."""
    base, rates, losses = run.experiment.optim.lr, [], []
    run.model.train()
    for number, batches in enumerate(run.training_steps(range(steps))):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / max(steps - 1, 1))
        set_rates(run.optimizer, rate / base)
        for unread in (one for batch in batches for one in batch.unread):
            logger.warning("%s The next image stands in for it.", unread.reason)
        moved = [to_device(batch, run.accelerator.device, run.dtype) for batch in batches]
        totals = agree(moved, run.detector.max_objects, stop=False).totals
        clip = run.experiment.optim.clip_norm
        try:
            report = take_step(run.accelerator, run.model, run.optimizer, moved, totals, clip).read()
        except NonFiniteLossError:
            break
        rates.append(rate)
        losses.append(report.loss)
        smoothed = smooth(losses)
        if smoothed[-1] > DIVERGED * min(smoothed):
            break
    return rates, losses


def smooth(losses: list[float]) -> list[float]:
    """The moving average of all losses so far, later ones weighing more."""
    average, smoothed = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**number))
    return smoothed


def suggest(rates: list[float], smoothed: list[float]) -> float | None:
    """A tenth of the rate where the smoothed loss is lowest, to one digit; None if it did not fall by 2 %."""
    if not smoothed:
        return None
    place = int(np.argmin(smoothed))
    if smoothed[place] > 0.98 * smoothed[0]:
        return None
    rate = rates[place] / BELOW
    return round(rate, -math.floor(math.log10(rate)))
