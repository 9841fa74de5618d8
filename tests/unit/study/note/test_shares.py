"""What a budget becomes, against sums done by hand."""

import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.study.note.shares import (
    Amount,
    Trials,
    amounts_within,
    full_amount,
    full_trials,
    trials_within,
)
from detrkit.tuning.pace import Pace
from detrkit.tuning.plan import whole_trials


def test_starts_and_validations_are_set_aside_and_the_rest_is_shared() -> None:
    paces = {"a": Pace(start=2.0, step=0.5, validation=5.0), "b": Pace(start=3.0, step=2.0, validation=30.0)}
    # a fifth of 200 / 4 s has room for 2 validations of a, and b has the one that it must have
    share = (200 - 2 - 2 * 5 - 3 - 30) / 4
    assert amounts_within(200.0, paces, shares=4) == {
        "a": Amount(int(share / 0.5), 2, share),
        "b": Amount(int(share / 2), 1, share),
    }


def test_there_are_at_most_twelve_validations_and_no_more_than_steps() -> None:
    assert amounts_within(1200.0, {"a": Pace(0.0, 1.0, 1.0)}, shares=2)["a"] == Amount(594, 12, 594.0)
    assert amounts_within(20.0, {"a": Pace(0.0, 4.0, 0.5)}, shares=2)["a"].validations == 2


def test_a_budget_without_room_for_a_step_is_told() -> None:
    with pytest.raises(
        DetrkitError, match=r"has 5 s left for 1 runs.* take 3 s, and a step of a takes 2\.0 s"
    ):
        amounts_within(5.0, {"a": Pace(1.0, 2.0, 2.0)}, shares=2)


def test_trials_fill_their_time_and_are_a_fifth_of_a_run_at_least() -> None:
    pace = Pace(start=1.0, step=0.5, validation=4.0)
    trials = trials_within(400.0, 450, pace, val_images=400, train_images=1000)
    # validated on 100 of 400 images, which takes a second
    cost = trials.number * 1.0 + whole_trials(trials.number) * (8 * 1.0 + 0.5 * trials.steps)
    assert cost <= 400.0
    assert trials.steps * 5 >= 450
    more = trials.number + 1
    assert more * 1.0 + whole_trials(more) * (8 * 1.0 + 0.5 * 96) > 400.0  # the next eights of steps after 90


def test_there_are_no_trials_where_four_do_not_fit() -> None:
    assert trials_within(60.0, 450, Pace(1.0, 0.5, 4.0), 400, 1000) == Trials(0, 0)


def test_a_full_run_has_its_recipes_epochs() -> None:
    settings = recipe("detr_r50")
    assert full_amount(settings, train_images=118_287) == Amount(500 * 118_287 // 2, 500, None)
    assert full_trials(1000) == Trials(12, 100)
