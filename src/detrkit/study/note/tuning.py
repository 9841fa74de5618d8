"""Learning rates and weight decay found by short trainings, the same whenever it is stopped and resumed.

One worker carries out the trials one after the other, each with the steps that the plan says. A trial that
was stopped is taken out of the study, so that it is proposed again under its own number, from the same
trials before it.
"""

import functools
from collections.abc import Generator
from pathlib import Path
from typing import Any

import optuna

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.data.subset import draw_images
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.study.note.plan import TRIALS, Run
from detrkit.study.note.runs import with_rates
from detrkit.study.note.shares import JUDGED_IMAGES
from detrkit.study.note.work import Work
from detrkit.training.events import Event
from detrkit.tuning.joining import join_or_begin, open_storage, sqlite_url
from detrkit.tuning.outcome import Outcome, best_of, outcomes
from detrkit.tuning.pace import Train
from detrkit.tuning.plan import Plan
from detrkit.tuning.space import Search, read_searches, starting_point
from detrkit.tuning.standing import fate_of
from detrkit.tuning.training import training_objective
from detrkit.tuning.worker import Work as Labour
from detrkit.tuning.worker import run_study


def tune_rates(work: Work) -> dict[str, Any]:
    """Every trial, and the best settings; None where these are the recipe's own or there are none."""
    run, trials = work.plan.runs[work.plan.base], work.plan.trials
    searches = read_searches(())
    own = starting_point(searches, run.settings)
    found = _carry_out(work, run, searches) if trials.number and work.plan.name_of("tuned") else []
    best = best_of(found)
    return {
        "searched": [search._asdict() for search in searches],
        "own": own,
        "best": None if best is None else best.number,
        "settings": None if best is None or best.settings == own else best.settings,
        "trials": [_timeless(one) for one in found],
    }


def _carry_out(work: Work, run: Run, searches: list[Search]) -> list[Outcome]:
    folder, settings = work.folder(TRIALS), run.settings
    folder.mkdir(parents=True, exist_ok=True)
    take_out_the_unfinished(folder)
    plan = Plan(work.plan.trials.steps, None, work.plan.data.train_images)
    asked = {"steps": plan.steps, "settings": settings.model_dump(mode="json")}
    study, _ = join_or_begin(open_storage(sqlite_url(folder)), TRIALS, asked, lambda: plan)
    objective = training_objective(
        lambda attempt: with_rates(settings, dict(attempt.settings)),
        _trainer(work, settings),
        plan,
        folder,
        work.listener,
    )
    labour = Labour(
        study=study,
        plan=plan,
        searches=searches,
        trials=work.plan.trials.number,
        seed=settings.train.seed,
        own=starting_point(searches, settings),
        objective=objective,
    )
    run_study(labour, work.listener)
    return outcomes(study.get_trials(deepcopy=False), searches)


def take_out_the_unfinished(folder: Path) -> None:
    """Leave the trials that are over alone in the study of a folder, with their numbers."""
    path, kept = folder / "study.db", folder / "kept.db"
    kept.unlink(missing_ok=True)
    if not path.exists():
        return
    storage = open_storage(sqlite_url(folder))
    if TRIALS not in optuna.get_all_study_names(storage):
        return
    study = optuna.load_study(study_name=TRIALS, storage=storage)
    trials = study.get_trials(deepcopy=False)
    over = [trial for trial in trials if fate_of(trial) in ("ended", "pruned", "failed")]
    if len(over) == len(trials):
        return
    copied = open_storage(f"sqlite:///{kept.resolve()}")
    new = optuna.create_study(storage=copied, study_name=TRIALS, direction="maximize")
    for name, value in study.user_attrs.items():
        new.set_user_attr(name, value)
    new.add_trials(over)
    for opened in (storage, copied):
        opened.engine.dispose()
    kept.replace(path)


def _trainer(work: Work, settings: Experiment) -> Train:
    """The loop that trains trials, which are validated on some of the images."""

    @functools.cache
    def read(data: Path, split: str) -> Catalog:
        catalog = read_split(data, split)
        if split != work.plan.data.val_split or len(catalog) <= JUDGED_IMAGES:
            return catalog
        return draw_images(catalog, JUDGED_IMAGES, settings.train.seed, stratified=True)

    def train(experiment: Experiment, folder: Path) -> Generator[Event]:
        return fit(experiment, work.data, folder, read_data=read)

    return train


def _timeless(outcome: Outcome) -> dict[str, Any]:
    """A trial without the time that it took."""
    return {name: value for name, value in outcome.as_dict().items() if name != "seconds"}
