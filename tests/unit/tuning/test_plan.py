import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.training.schedule import plan as length_of
from detrkit.training.schedule import validates
from detrkit.tuning.plan import Pace, Plan, plan_within, whole_trials
from detrkit.tuning.training import lasting

PACE = Pace(start=1.0, step=0.2, validation=2.0)


@pytest.mark.parametrize("trials", [1, 2, 7, 20, 100])
def test_whatever_goes_on_all_trials_together_end_within_the_budget(trials: int) -> None:
    plan = plan_within(3600.0, trials, PACE, train_images=1000)
    assert plan.total is not None
    assert plan.steps % 8 == 0
    assert plan.total >= plan.steps
    validations = plan.total / plan.part
    cost = trials * PACE.start + plan.total * PACE.step + validations * PACE.validation
    assert cost <= 3600
    longer = plan.steps + 8
    grown = plan.total / plan.steps * longer
    assert trials * PACE.start + grown * PACE.step + validations * PACE.validation > 3600 * 0.99


def test_a_budget_for_less_than_a_step_between_validations_is_refused() -> None:
    with pytest.raises(DetrkitError, match="fewer --trials"):
        plan_within(60.0, 20, PACE, train_images=1000)


def test_few_trials_are_all_paid_whole_and_many_are_not() -> None:
    assert whole_trials(1) == 1
    assert whole_trials(3) == 3
    assert whole_trials(100) < 60


@pytest.mark.parametrize(("batch", "accumulate", "images"), [(16, 1, 1000), (3, 2, 977), (64, 1, 10)])
def test_a_trial_is_validated_after_each_eighth_of_its_steps(
    batch: int, accumulate: int, images: int
) -> None:
    settings = {"data.batch_size": batch, "train.accumulate": accumulate}
    experiment = lasting(recipe("shapes", settings), Plan(steps=80, total=None, train_images=images))
    length = length_of(experiment.train, images, batch * accumulate)
    every = experiment.train.validate_every
    found = [step for step in range(1, length.steps + 1) if validates(length, step, every)]
    assert found == [10, 20, 30, 40, 50, 60, 70, 80]
