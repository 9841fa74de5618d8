"""The trainings of a note."""

from typing import Any

from detrkit.errors import DetrkitError
from detrkit.inference.load import read
from detrkit.inference.transferred import transferred
from detrkit.settings.experiment import Experiment
from detrkit.study.note.family import Role
from detrkit.study.note.plan import Run
from detrkit.study.note.work import Work, lasting
from detrkit.study.outcome import is_over, read_outcome
from detrkit.study.training import train_to_its_end
from detrkit.weights import store
from detrkit.weights.transfer import summarise


def train_role(work: Work, role: Role) -> dict[str, Any]:
    """Train all runs of a role, and what came of each by name."""
    return {name: _trained(work, name, run, None) for name, run in work.plan.of(role).items()}


def train_grown(work: Work) -> dict[str, Any]:
    """Train the larger detector from the smaller one's weights; an account of the tensors too."""
    found: dict[str, Any] = {}
    for name, run in work.plan.of("grown").items():
        start = work.out / "runs" / f"{name}.safetensors"
        account = _grow(work, run, start)
        found[name] = _trained(work, name, run, start) | {"account": account}
        start.unlink()
    return found


def train_tuned(work: Work) -> dict[str, Any]:
    """Train the base with the tuned settings, unless these are its own."""
    best = (work.result("trials") or {}).get("settings")
    runs = work.plan.of("tuned")
    if best is None:
        return {}
    return {
        name: _trained(work, name, run._replace(settings=with_rates(run.settings, best)), None)
        for name, run in runs.items()
    }


def with_rates(experiment: Experiment, tuned: dict[str, float]) -> Experiment:
    """The settings with the learning rates and the weight decay that were found."""
    optim = {name.removeprefix("optim."): value for name, value in tuned.items()}
    return experiment.model_copy(update={"optim": experiment.optim.model_copy(update=optim)})


def _trained(work: Work, name: str, run: Run, init: Any) -> dict[str, Any]:
    folder = work.folder(name)
    settings = lasting(run, work.plan.data.train_images)
    if not is_over(folder):
        train_to_its_end(settings, work.data, folder, work.listener, init)
    images_per_step = settings.data.batch_size * settings.train.accumulate
    outcome = read_outcome(folder, settings.optim.lr, images_per_step)
    if outcome.diverged and not work.has_weights(name):
        _require_other_roles(name, run, outcome.diverged)
    return outcome.as_dict()


def _require_other_roles(name: str, run: Run, reason: str) -> None:
    """Without the base's weights there is nothing to compare with, and nothing to grow from."""
    if run.role == "smaller":
        raise DetrkitError(
            f"{name}, which all others are compared with, diverged before its first validation: {reason} "
            "Give a lower learning rate with --set optim.lr=.. and another --out."
        )


def _grow(work: Work, run: Run, start: Any) -> list[list[Any]]:
    """Write the larger detector's starting weights; (part, what, tensors, elements, reason) of each part."""
    origin = read(work.folder(work.plan.base))
    found = transferred(origin, run.settings, "grow")
    store.write(start, found.tensors, run.settings, origin.categories)
    return [list(line) for line in summarise(found.rows)]
