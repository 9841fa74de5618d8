"""A study of settings: many short trainings, on any number of machines at once, and a recipe of the best."""

import functools
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from accelerate import PartialState
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from detrkit.data.formats.recognise import read_split
from detrkit.errors import DetrkitError
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Event
from detrkit.training.schedule import Length
from detrkit.tuning.joining import first_line, join_or_begin, open_storage, sqlite_url
from detrkit.tuning.outcome import best_of
from detrkit.tuning.pace import Train, measure, try_out
from detrkit.tuning.plan import Plan, plan_of_recipe, plan_within
from detrkit.tuning.request import Request
from detrkit.tuning.results import Results, results_of, write_results
from detrkit.tuning.space import starting_point
from detrkit.tuning.training import training_objective
from detrkit.tuning.worker import Begun, Ended, Waiting, Work, run_study


class Measuring(NamedTuple):
    """What a trial takes is being measured."""


class Planned(NamedTuple):
    """A study was begun or joined, of which ``trials`` trials are there already."""

    plan: Plan
    trials: int


Listener = Callable[[Event | Measuring | Planned | Begun | Ended | Waiting], None]
"""Hears every event of a study, in order."""


def tune(request: Request, out: Path, listener: Listener, storage: str | None = None) -> Results:
    """Try settings until all trials are over; ``out`` receives ``best.toml``, ``trials.json`` and the logs.

    ``storage`` is the URL of a database that workers share, by default an SQLite file in ``out``; the study's
    name in it is that of ``out``.

    Raises:
        DetrkitError: where the storage, the data or the settings are at fault, or all trials failed.
        KeyboardInterrupt: when asked to stop; what is over is kept, and the same request goes on.
    """
    _require_one_process()
    out.mkdir(parents=True, exist_ok=True)
    train, own = _trainer(request), request.experiment()
    length = try_out(own, train).length
    opened = open_storage(storage or sqlite_url(out))
    study, plan = join_or_begin(
        opened, out.resolve().name, request.asked(), lambda: _plan(request, own, length, train, listener)
    )
    listener(Planned(plan, len(study.get_trials(deepcopy=False))))
    objective = training_objective(
        lambda attempt: request.experiment(attempt.settings), train, plan, out, listener
    )
    work = Work(
        study=study,
        plan=plan,
        searches=request.searches,
        trials=request.trials,
        seed=request.seed,
        own=starting_point(request.searches, own),
        objective=objective,
    )
    try:
        run_study(work, listener)
    except KeyboardInterrupt:
        _written(study, plan, request, out)
        raise
    except StorageInternalError as error:
        raise DetrkitError(
            f"the study's storage failed ({first_line(error.__cause__ or error)}): once it is there again, "
            "the same command goes on."
        ) from None
    results = _written(study, plan, request, out)
    _require_best(results)
    return results


def _trainer(request: Request) -> Train:
    """The loop that trains on the request's data, whose catalogs are read once for all trials."""
    read = functools.cache(read_split)

    def train(experiment: Experiment, folder: Path) -> Generator[Event]:
        return fit(experiment, request.data, folder, init=request.init, recipe=request.recipe, read_data=read)

    return train


def _plan(request: Request, own: Experiment, length: Length, train: Train, listener: Listener) -> Plan:
    if request.budget is None:
        return plan_of_recipe(length.steps, length.num_images)
    listener(Measuring())
    begun = time.monotonic()
    pace = measure(own, train)
    left = request.budget - (time.monotonic() - begun)
    return plan_within(left, request.trials, pace, length.num_images)


def _written(study: Study, plan: Plan, request: Request, out: Path) -> Results:
    results = results_of(study.get_trials(deepcopy=False), plan, request)
    write_results(results, out)
    return results


def _require_best(results: Results) -> None:
    if best_of(results.outcomes) is None:
        failed = [one for one in results.outcomes if one.reason]
        why = f" The last one: {failed[-1].reason}" if failed else ""
        raise DetrkitError(
            f"none of {len(results.outcomes)} trials came to its end.{why} Look at what it says, or search "
            "narrower ranges, with another --out."
        )


def _require_one_process() -> None:
    processes = PartialState().num_processes
    if processes > 1:
        raise DetrkitError(
            f"a worker was started in {processes} processes: start it without a launcher, once for each GPU, "
            "with CUDA_VISIBLE_DEVICES and the same --storage."
        )
