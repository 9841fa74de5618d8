"""A worker: takes trials of a study until it is over. Any number may do so at once, on any machines.

The storage gives every trial to one worker. While it runs, a thread says that the worker lives; whoever asks
for the next trial first fails those whose worker has been silent for too long, and their places are free.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import optuna
import torch
from optuna.exceptions import ExperimentalWarning, TrialPruned, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from detrkit.errors import DetrkitError
from detrkit.tuning.attempt import Attempt, Objective
from detrkit.tuning.outcome import Outcome, best_of, outcomes
from detrkit.tuning.plan import Plan
from detrkit.tuning.propose import propose
from detrkit.tuning.space import Search
from detrkit.tuning.standing import REASON, SURPLUS, fate_of, next_step, taken

_PAUSE = 1.0
"""Seconds between two looks at the trials of others."""


class Begun(NamedTuple):
    """A trial of this worker begins with these settings."""

    number: int
    settings: Mapping[str, Any]


class Ended(NamedTuple):
    """A trial of this worker is over; ``best`` is that of all workers by now, None while there is none."""

    outcome: Outcome
    best: Outcome | None


class Waiting(NamedTuple):
    """Nothing is left to do but wait for ``others``, trials of other workers that could still be lost."""

    others: int


class Work(NamedTuple):
    """What a worker needs: the study, what to try, and how a trial is carried out.

    ``trials`` is the number wanted of all workers together; ``own`` are the recipe's values of what is
    searched.
    """

    study: Study
    plan: Plan
    searches: Sequence[Search]
    trials: int
    seed: int
    own: Mapping[str, Any]
    objective: Objective


def run_study(work: Work, listener: Callable[[Begun | Ended | Waiting], None]) -> None:
    """Carry out trials until all that are wanted are over, those of other workers included.

    What goes wrong in a trial fails it, with the reason beside it, and the next one begins.

    Raises:
        KeyboardInterrupt: when asked to stop; the trial at hand is lost, and its place free.
    """
    study, waiting = work.study, _Waiting()
    while True:
        _fail_the_silent(study)
        trials = study.get_trials(deepcopy=False)
        match next_step(trials, work.plan, work.trials):
            case "done":
                return
            case "begin":
                waiting = _Waiting()
                _carry_out_one(work, listener)
            case "wait":
                if not waiting.seen:
                    listener(Waiting(sum(fate_of(trial) == "running" for trial in trials)))
                waiting.give_up_the_unborn(study, trials)
                time.sleep(_PAUSE)


def reason_of(error: BaseException) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())
    match error:
        case DetrkitError():
            return text
        case MemoryError() | torch.OutOfMemoryError():
            return f"out of memory: {text}"
        case RuntimeError() if "allocate memory" in text:
            return f"out of memory: {text}"
        case _:
            return f"{type(error).__name__}: {text}"


def _carry_out_one(work: Work, listener: Callable[[Begun | Ended | Waiting], None]) -> None:
    numbers: list[int] = []
    objective = partial(_carry_out, work, listener, numbers)
    try:
        work.study.optimize(objective, n_trials=1, catch=(Exception,))
    except (UpdateFinishedTrialError, ValueError):
        # Only of a trial that others have taken for dead may the end not be told.
        if not _is_over(work.study, numbers):
            raise
    for number in numbers:
        found = outcomes(work.study.get_trials(deepcopy=False), work.searches)
        (outcome,) = (one for one in found if one.number == number)
        listener(Ended(outcome, best_of(found)))


def _carry_out(
    work: Work, listener: Callable[[Begun | Ended | Waiting], None], numbers: list[int], trial: Trial
) -> float:
    before = work.study.get_trials(deepcopy=False)[: trial.number]
    if len(taken(before)) >= work.trials:
        trial.set_user_attr(SURPLUS, True)
        raise _SurplusError
    settings = propose(trial, work.searches, work.seed, work.own, before)
    numbers.append(trial.number)
    listener(Begun(trial.number, settings))
    attempt = Attempt(trial, settings, work.plan)
    try:
        work.objective(attempt)
    except TrialPruned:
        raise
    except Exception as error:
        trial.set_user_attr(REASON, reason_of(error))
        raise
    assert attempt.value is not None, "an objective must report its last validation"
    return attempt.value


def _fail_the_silent(study: Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _is_over(study: Study, numbers: Sequence[int]) -> bool:
    trials = study.get_trials(deepcopy=False)
    return any(trials[number].state.is_finished() for number in numbers)


class _SurplusError(Exception):
    """Of two workers that began the last trial at once, one gives its own back."""


class _Waiting:
    """What this worker has seen while it waited, by its own clock."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def give_up_the_unborn(self, study: Study, trials: Sequence[FrozenTrial], patience: float = 60) -> None:
        """Fail a trial without settings for so long: its worker died before it said that it lives."""
        now = time.monotonic()
        for trial in trials:
            if trial.state is TrialState.RUNNING:
                since = self.seen.setdefault(trial.number, now)
                if not trial.params and now - since > patience:
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
