"""One run of a study: its settings, and training it to its end from wherever it is."""

from pathlib import Path
from typing import NamedTuple

from detrkit.settings.experiment import Experiment
from detrkit.study.events import Listener
from detrkit.study.outcome import Outcome, is_over, read_outcome
from detrkit.study.plan import Plan
from detrkit.study.same_machine import require_same_pace
from detrkit.study.training import train_to_its_end

_VALIDATIONS = 12
"""Of a full run; one of the sweep has the one at its end."""


class Trial(NamedTuple):
    """A run: its recipe, the name of its folder, its learning rate, steps and validations."""

    recipe: str
    name: str
    rate: float
    steps: int
    validations: int


def sweep_trial(plan: Plan, recipe: str, rate: float) -> Trial:
    """The short run that tries a learning rate."""
    return Trial(recipe, f"lr_{rate_name(rate)}", rate, plan.steps[recipe].sweep, 1)


def full_trial(plan: Plan, recipe: str, rate: float) -> Trial:
    """The run of the whole budget."""
    return Trial(recipe, "full", rate, plan.steps[recipe].full, _VALIDATIONS)


def longer_trial(plan: Plan, recipe: str, rate: float) -> Trial:
    """The run of the longer budget that was asked for this recipe."""
    steps = plan.steps[recipe].longer
    assert steps is not None
    return Trial(recipe, "longer", rate, steps, _VALIDATIONS)


def carry_out(trial: Trial, plan: Plan, out: Path, listener: Listener) -> Outcome:
    """What came of a run, which is trained, or trained on, unless it is over.

    Raises:
        KeyboardInterrupt: when SIGTERM or Ctrl-C asked to stop; the run is saved.
    """
    folder = out / "runs" / trial.recipe / trial.name
    if not is_over(folder):
        require_same_pace(plan.machine)
        train_to_its_end(settings_of(trial, plan), plan.request.data, folder, listener)
    return read_outcome(folder, trial.rate, plan.images.images_per_step)


def settings_of(trial: Trial, plan: Plan) -> Experiment:
    """The recipe at the run's rate and length; the backbone's rate keeps its ratio to the others'."""
    experiment = plan.request.recipes[trial.recipe]
    epochs = trial.steps * plan.images.images_per_step / plan.images.train_images
    ratio = experiment.optim.backbone_lr / experiment.optim.lr
    optim = {"lr": trial.rate, "backbone_lr": trial.rate * ratio}
    train = {
        "max_steps": trial.steps,
        "budget": None,
        "validate_every": epochs / trial.validations,
        "patience": None,
    }
    return experiment.model_copy(
        update={
            "optim": experiment.optim.model_copy(update=optim),
            "train": experiment.train.model_copy(update=train),
        }
    )


def rate_name(rate: float) -> str:
    """A learning rate as people write it: 1e-4, 2.5e-3."""
    digits, _, exponent = f"{rate:.12e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
