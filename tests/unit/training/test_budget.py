import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from detrkit.training.budget import Pace, steps_within

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
