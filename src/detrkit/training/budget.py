"""A time budget, turned into steps once, by timing this machine before the run."""

import copy
import time
from contextlib import suppress
from typing import NamedTuple

import torch
from accelerate.utils import broadcast_object_list

from detrkit.settings.training import parse_duration
from detrkit.training.interruption import Interruption
from detrkit.training.optimise import forget
from detrkit.training.prepare import Run
from detrkit.training.step import NonFiniteLossError, agree, take_step, to_device
from detrkit.training.validate import validate

_WARM_UP, _TIMED = 2, 6


class Pace(NamedTuple):
    """What was measured, in seconds."""

    step: float
    validation: float


def steps_within(seconds: float, pace: Pace, steps_per_validation: float) -> int:
    """Steps that end in time together with their validations, the last of which ends the run.

    The rest of the budget is shorter than a step and a validation. At least one step, even where the
    budget is too short for it.
    """
    for_steps = max(seconds - pace.validation, 0.0)
    return max(1, int(for_steps / (pace.step + pace.validation / steps_per_validation)))


def measure_steps(run: Run) -> int:
    """How many steps the budget of a run allows, the time of measuring them taken off.

    The run's first steps and one validation are timed for real; then the run is put back to its start.
    """
    start = time.perf_counter()
    pace = _measure(run)
    budget = parse_duration(run.experiment.train.budget or "")
    left = budget - (time.perf_counter() - start)
    length = run.length
    steps_per_validation = run.experiment.train.validate_every * length.num_images / length.images_per_step
    shared = [steps_within(left, pace, steps_per_validation)]
    return broadcast_object_list(shared)[0]


def _measure(run: Run) -> Pace:
    before, scaler = copy.deepcopy(run.detector.state_dict()), run.state.scaler
    scale = scaler and scaler.state_dict()
    times = []
    run.model.train()
    for number, batches in enumerate(run.training_steps(range(_WARM_UP + _TIMED))):
        start = time.perf_counter()
        moved = [to_device(batch, run.accelerator.device, run.dtype) for batch in batches]
        totals = agree(moved, run.detector.max_objects, stop=False).totals
        clip_norm = run.experiment.optim.clip_norm
        measured = number % run.experiment.train.update_ratio_every == 0
        pending = take_step(run.accelerator, run.model, run.optimizer, moved, totals, clip_norm, measured)
        with suppress(NonFiniteLossError):  # the run itself comes to this step, and says it
            pending.read()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    validate(run, Interruption())
    validation = time.perf_counter() - start
    run.detector.load_state_dict(before)
    forget(run.optimizer)
    if scaler is not None and scale is not None:
        scaler.load_state_dict(scale)
    return Pace(float(torch.tensor(times[_WARM_UP:]).median()), validation)
