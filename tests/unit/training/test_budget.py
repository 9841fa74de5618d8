import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from detrkit.settings.experiment import recipe
from detrkit.training import budget
from detrkit.training.budget import Pace, measure_steps, steps_within
from detrkit.training.prepare import prepare

SECONDS = st.floats(0.01, 100)


def time_of(steps: int, pace: Pace, steps_per_validation: float) -> float:
    """A validation follows every so many steps and the last one."""
    return steps * pace.step + math.ceil(steps / steps_per_validation - 1e-9) * pace.validation


@settings(deadline=None)
@given(st.floats(1, 10_000), SECONDS, SECONDS, st.floats(1, 500))
def test_the_steps_and_their_validations_end_in_time_and_leave_little_of_it(
    budget: float, step: float, validation: float, steps_per_validation: float
) -> None:
    pace = Pace(step, validation)
    steps = steps_within(budget, pace, steps_per_validation)
    assert steps >= 1
    if steps > 1:
        assert time_of(steps, pace, steps_per_validation) <= budget + 1e-6
    # What is left is less than a step, a validation, and a step's share of one.
    share = validation / steps_per_validation
    assert time_of(steps, pace, steps_per_validation) > budget - (step + validation + share) - 1e-6


@settings(deadline=None)
@given(st.integers(1, 1000), SECONDS, st.floats(1, 500))
def test_where_validation_takes_no_time_the_whole_budget_is_steps(
    steps: int, step: float, steps_per_validation: float
) -> None:
    assert steps_within((steps + 0.5) * step, Pace(step, 0.0), steps_per_validation) == steps


@pytest.mark.parametrize("budget", [-3.0, 0.0, 5.0, 11.0])
def test_a_budget_that_is_too_short_is_one_step(budget: float) -> None:
    assert steps_within(budget, Pace(step=10.0, validation=5.0), 2.0) == 1


def test_measuring_leaves_the_run_as_it_was(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    small_detr: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, moments, and the scale of fp16's losses, which steps change on a GPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(1))
    monkeypatch.setattr(budget, "validate", lambda *given: scaler.update(2.0))
    data = write_coco(tmp_path / "data", train=[1, 2], val=[1])
    experiment = recipe("detr_r50", small_detr | {"train.budget": "1h"})
    run = prepare(experiment, data, tmp_path / "run", resume=False, init=None, measure=lambda run: 1)
    run = replace(
        run,
        experiment=experiment,
        length=run.length._replace(steps=0),
        state=replace(run.state, scaler=scaler),
    )
    before = copy.deepcopy(run.detector.state_dict())
    assert measure_steps(run) > 1
    assert scaler.get_scale() == 8.0
    assert not any(run.optimizer.state.values())
    for name, value in run.detector.state_dict().items():
        assert torch.equal(value, before[name]), name
