"""The objective of a study: a training in a folder of its own, told to the study at each validation."""

import gc
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import torch

from detrkit.errors import AskedToStop
from detrkit.settings.experiment import Experiment
from detrkit.training.events import Event, Interrupted, Stepped, Validated
from detrkit.tuning.attempt import Attempt, Objective
from detrkit.tuning.pace import Train
from detrkit.tuning.plan import Plan


def training_objective(
    build: Callable[[Attempt], Experiment],
    train: Train,
    plan: Plan,
    out: Path,
    listener: Callable[[Event], None],
) -> Objective:
    """Trials as trainings, whose settings ``build`` says; each leaves its log in ``out/trials/NUMBER``.

    A trial that reaches its end keeps its weights and detections too.
    """

    def carry_out(attempt: Attempt) -> None:
        _free_memory()
        folder = folder_of(out, attempt.number)
        # what is there is of a study that had this folder before
        shutil.rmtree(folder, ignore_errors=True)
        experiment = lasting(build(attempt), plan)
        try:
            with closing(train(experiment, folder)) as events:
                _follow(events, attempt, listener)
        except BaseException:
            (folder / "model.safetensors").unlink(missing_ok=True)
            shutil.rmtree(folder / "evaluation", ignore_errors=True)
            raise
        finally:
            shutil.rmtree(folder / "last", ignore_errors=True)

    return carry_out


def folder_of(out: Path, number: int) -> Path:
    """The run folder of a trial."""
    return out / "trials" / f"{number:04d}"


def lasting(experiment: Experiment, plan: Plan) -> Experiment:
    """The settings with the length of the plan's trials, and its validations."""
    settings = experiment.train
    epochs = plan.part * experiment.data.batch_size * settings.accumulate / plan.train_images
    length = {
        "budget": None,
        "max_steps": plan.steps,
        # a hair less, so that rounding does not put a validation one step off
        "validate_every": epochs * (1 - 1e-9),
        "patience": None,
        "validate_raw": False,
        # a trial is not resumed
        "checkpoint_every": max(plan.steps, 1),
    }
    return experiment.model_copy(update={"train": settings.model_copy(update=length)})


def recent(losses: Sequence[float]) -> float:
    """The mean loss of the last tenth of the steps, since a single step's is mostly its images."""
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _free_memory() -> None:
    """Give back what the trial before held, in a cycle of references too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _follow(events: Iterable[Event], attempt: Attempt, listener: Callable[[Event], None]) -> None:
    losses: list[float] = []
    for event in events:
        listener(event)
        match event:
            case Stepped():
                losses.append(event.loss)
            case Validated():
                attempt.report(event.step, event.metrics.AP, recent(losses))
            case Interrupted():
                raise AskedToStop(event.signal)
            case _:
                pass
