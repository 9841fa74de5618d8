"""What a budget becomes, against sums done by hand."""

import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.study.note.shares import (
    Amount,
    Trials,
    amount_within,
    full_amount,
    full_trials,
    share_of,
    trials_within,
)
from detrkit.tuning.pace import Pace
from detrkit.tuning.plan import whole_trials


def test_runs_have_one_share_each_tuning_two_and_judging_two() -> None:
    assert share_of(130.0, runs=9, tuning=True) == 10.0
    assert share_of(110.0, runs=9, tuning=False) == 10.0


def test_a_run_starts_validates_and_trains_within_its_seconds() -> None:
    # a fifth of 100 s has room for 4 validations of 5 s; 2 s of start; what is left takes 0.5 s a step
    assert amount_within(100.0, Pace(start=2.0, step=0.5, validation=5.0)) == Amount(156, 4, 100.0)


def test_there_are_at_most_twelve_validations_and_at_least_one() -> None:
    assert amount_within(1000.0, Pace(0.0, 1.0, 1.0)) == Amount(988, 12, 1000.0)
    assert amount_within(30.0, Pace(0.0, 1.0, 20.0)) == Amount(10, 1, 30.0)


def test_there_are_no_more_validations_than_steps() -> None:
    assert amount_within(10.0, Pace(0.0, 4.0, 0.1)) == Amount(2, 2, 10.0)


def test_a_budget_without_room_for_a_step_is_told() -> None:
    with pytest.raises(DetrkitError, match=r"leaves 3\.0 s for each run.*takes 4\.0 s here: give more time"):
        amount_within(3.0, Pace(1.0, 1.0, 2.0))


def test_trials_fill_their_time_and_are_a_fifth_of_a_run_at_least() -> None:
    pace = Pace(start=1.0, step=0.5, validation=4.0)
    trials = trials_within(600.0, 450, pace, val_images=400, train_images=1000)
    # validated on 100 of 400 images, which takes a second
    cost = trials.number * 1.0 + whole_trials(trials.number) * (9 * 1.0 + 0.5 * trials.steps)
    assert cost <= 600.0
    assert trials.steps * 5 >= 450
    more = trials.number + 1
    assert more * 1.0 + whole_trials(more) * (9 * 1.0 + 0.5 * 90) > 600.0


def test_there_are_no_trials_where_four_do_not_fit() -> None:
    assert trials_within(60.0, 450, Pace(1.0, 0.5, 4.0), 400, 1000) == Trials(0, 0)


def test_a_full_run_has_its_recipes_epochs() -> None:
    settings = recipe("detr_r50")
    assert full_amount(settings, train_images=118_287) == Amount(500 * 118_287 // 2, 500, None)
    assert full_trials(1000) == Trials(12, 100)
