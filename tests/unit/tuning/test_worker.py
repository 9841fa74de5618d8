"""Studies of a known function in place of training, as quick as its arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
import torch
from optuna.storages import BaseStorage, InMemoryStorage

from detrkit.errors import DetrkitError, NotFiniteError
from detrkit.tuning import worker
from detrkit.tuning.attempt import Attempt, Objective
from detrkit.tuning.joining import join_or_begin
from detrkit.tuning.outcome import Outcome, best_of, importance, outcomes
from detrkit.tuning.plan import Plan
from detrkit.tuning.space import read_searches
from detrkit.tuning.worker import Begun, Ended, Work, run_study

MakeWork = Callable[..., Work]
SEARCHES = ["optim.lr=1e-6:1e-1", "optim.weight_decay=1e-6:1e-1"]
PLAN = Plan(steps=80, total=None, train_images=100)


def quality(settings: Any) -> float:
    """The AP that these settings end with: 0.8 at a rate of 1e-3 and a decay of 1e-4, else less."""
    rate, decay = math.log10(settings["optim.lr"]) + 3, math.log10(settings["optim.weight_decay"]) + 4
    return 0.8 * math.exp(-(rate**2) - 0.2 * decay**2)


def known(attempt: Attempt) -> None:
    """Rises to its quality in eight validations; below 0.05 it finds nothing yet, and has its loss alone."""
    for part in range(1, 9):
        found = quality(attempt.settings) * part / 8
        attempt.report(10 * part, found if found >= 0.05 else 0.0, 10 * (1 - found))


@pytest.fixture
def work() -> Callable[..., Work]:
    """Work on a study in memory, or in a storage."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)

    def make(
        trials: int, objective: Objective = known, storage: BaseStorage | None = None, **more: Any
    ) -> Work:
        study, plan = join_or_begin(storage or InMemoryStorage(), "study", {}, lambda: more.pop("plan", PLAN))
        searches = read_searches(SEARCHES, fixed=["optim.backbone_lr"])
        return Work(study, plan, searches, trials, more.get("seed", 0), more.get("own", {}), objective)

    return make


def carried_out(work: Work) -> list[Outcome]:
    run_study(work, lambda event: None)
    return outcomes(work.study.get_trials(), work.searches)


def test_the_best_settings_of_a_known_function_are_found(work: MakeWork) -> None:
    found = [best_of(carried_out(work(40, seed=seed))) for seed in range(3)]
    for best in found:
        assert best is not None
        assert best.value == pytest.approx(quality(best.settings))
        assert abs(math.log10(best.settings["optim.lr"]) + 3) < 0.6
        assert best.value > 0.8 * 0.6


def test_bad_trials_are_ended_early_and_those_that_are_not_are_better(work: MakeWork) -> None:
    found = carried_out(work(40))
    pruned = [one for one in found if one.fate == "pruned"]
    ended = [one for one in found if one.fate == "ended"]
    assert len(pruned) + len(ended) == 40
    assert len(pruned) >= 20
    assert {one.steps for one in pruned} <= {10, 20, 40}
    assert {one.steps for one in ended} == {80}
    assert sum(one.steps for one in found) < 40 * 80 / 2
    at_first = [max(quality(one.settings) for one in group) for group in (pruned, ended)]
    assert at_first[0] < at_first[1]


def test_a_trial_that_has_come_to_its_last_eighth_is_not_ended(work: MakeWork) -> None:
    def slow(attempt: Attempt) -> None:
        for step in (25, 50, 75, 100, 125, 150, 175, 200, 203):
            attempt.report(step, quality(attempt.settings) * step / 203, 1.0)

    found = carried_out(work(40, slow, plan=Plan(steps=203, total=None, train_images=100)))
    assert {one.steps for one in found} == {25, 50, 100, 203}


def test_while_nothing_is_found_the_loss_says_which_trials_go_on(work: MakeWork) -> None:
    def blind(attempt: Attempt) -> None:
        for part in range(1, 9):
            attempt.report(10 * part, 0.0, 10 * (1 - quality(attempt.settings) * part / 8))

    found = carried_out(work(30, blind))
    assert any(one.fate == "pruned" for one in found)
    best = best_of(found)
    assert best is not None
    assert best.settings == max((one for one in found), key=lambda one: quality(one.settings)).settings


def test_the_first_trial_has_the_recipe_s_own_settings(work: MakeWork) -> None:
    own = {"optim.lr": 1e-6, "optim.weight_decay": 0.1}
    found = carried_out(work(2, own=own))
    assert found[0].settings == own
    assert found[1].settings != own


def test_a_study_that_goes_on_proposes_what_it_would_have_proposed(work: MakeWork) -> None:
    whole = carried_out(work(12, seed=3))
    storage = InMemoryStorage()
    carried_out(work(5, storage=storage, seed=3))
    again = carried_out(work(12, storage=storage, seed=3))
    assert [one.settings for one in again] == [one.settings for one in whole]
    assert [one.settings for one in carried_out(work(12, seed=4))] != [one.settings for one in whole]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFiniteError("the loss is nan in the batch of a.jpg: look."), "the loss is nan in the batch"),
        (MemoryError("no room"), "out of memory: no room"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory: CUDA out of memory."),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 GB"), "out of memory: "),
        (ZeroDivisionError("division by\nzero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_what_goes_wrong_fails_its_trial_with_the_reason_and_not_the_study(
    work: MakeWork, error: Exception, reason: str
) -> None:
    def fragile(attempt: Attempt) -> None:
        if attempt.number == 1:
            raise error
        known(attempt)

    found = carried_out(work(4, fragile))
    assert [one.fate == "failed" for one in found] == [False, True, False, False]
    assert found[1].reason.startswith(reason)


def test_a_trial_at_hand_when_asked_to_stop_is_lost_and_its_place_taken(work: MakeWork) -> None:
    storage = InMemoryStorage()

    def stopped(attempt: Attempt) -> None:
        if attempt.number == 0:
            raise KeyboardInterrupt
        known(attempt)

    own = {"optim.lr": 1e-3, "optim.weight_decay": 1e-3}
    with pytest.raises(KeyboardInterrupt):
        run_study(work(3, stopped, storage, own=own), lambda event: None)
    found = carried_out(work(3, stopped, storage, own=own))
    assert found[0].fate == "lost"
    assert len(found) == 4
    assert found[1].settings == own  # the recipe's own are tried all the same


def test_a_study_that_is_over_is_left_alone(work: MakeWork) -> None:
    storage = InMemoryStorage()
    found = carried_out(work(3, storage=storage))
    heard: list[Any] = []
    run_study(work(3, storage=storage), heard.append)
    assert heard == []
    assert outcomes(work(3, storage=storage).study.get_trials(), []) != []
    assert len(carried_out(work(5, storage=storage))) == len(found) + 2


def test_no_trial_is_begun_that_the_budget_has_no_room_for(work: MakeWork) -> None:
    found = carried_out(work(40, plan=Plan(steps=80, total=300, train_images=100)))
    assert len(found) < 40
    assert 300 - 90 < sum(one.steps for one in found) <= 300


def test_a_trial_begun_when_all_were_taken_is_given_back(work: MakeWork) -> None:
    full = work(1, objective=lambda attempt: pytest.fail("it was carried out"))
    full.study.ask()  # of another worker, which was quicker
    worker._carry_out_one(full, lambda event: pytest.fail("it was told"))
    assert [one.number for one in outcomes(full.study.get_trials(), full.searches)] == [0]


def test_what_happens_is_told_in_order(work: MakeWork) -> None:
    heard: list[Any] = []
    run_study(work(3), heard.append)
    assert [type(event) for event in heard] == [Begun, Ended] * 3
    assert [event.outcome.number for event in heard[1::2]] == [0, 1, 2]
    assert heard[-1].best is not None


def test_the_setting_that_decides_is_found_important(work: MakeWork) -> None:
    def of_rate(attempt: Attempt) -> None:
        rate = abs(math.log10(attempt.settings["optim.lr"]) + 3)
        for part in range(1, 9):
            attempt.report(10 * part, 0.9 * math.exp(-rate) * part / 8, 1.0)

    of_study = work(40, of_rate)
    carried_out(of_study)
    found = importance(of_study.study.get_trials())
    assert sum(found.values()) == pytest.approx(1)
    assert found["optim.lr"] > 0.7
    few = work(4)
    carried_out(few)
    assert importance(few.study.get_trials()) == {}


def test_a_study_of_other_settings_is_refused_by_name() -> None:
    storage = InMemoryStorage()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    plan = Plan(9, None, 10)
    join_or_begin(storage, "one", {"optim.lr": 1e-3}, lambda: plan)
    study, found = join_or_begin(storage, "one", {"optim.lr": 1e-3}, lambda: pytest.fail("planned twice"))
    assert (study.study_name, found) == ("one", plan)
    with pytest.raises(DetrkitError, match=r"optim\.lr = 0\.001, not 0\.01.*--out"):
        join_or_begin(storage, "one", {"optim.lr": 1e-2}, lambda: plan)
