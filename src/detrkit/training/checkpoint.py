"""The training state on disk: everything that changes and is not a function of the step.

``last/`` holds one safetensors file (weights, the optimiser's moments, the moving average) and ``state.json``
(the rest), which names it. The json is replaced last, in one rename, after the tensors were read back:
whenever a run is killed or its disk is full, it names a complete file. The order of images, augmentation,
dropout and learning rate need no place here, since they are functions of the seed and the step.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from detrkit.catalog import Category, require_same_categories
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError, shown
from detrkit.training.averaging import Average
from detrkit.weights import store

_VERSION = 1
_STATE = "state.json"
_TENSORS = re.compile(r"tensors-\d+\.safetensors")
_UNFINISHED = re.compile(r"\.tensors-\d+\.safetensors\.writing|\.state\.json\.tmp")
_ENTRIES = {"tensors", "progress", "optimizer", "average_count", "scaler", "experiment", "categories"}


@dataclass
class Progress:
    """How far a run is, in steps of ``images_per_step`` on any number of processes, and how well it did.

    ``validation_due``: the validation after ``step`` is not done yet.
    """

    step: int = 0
    images_per_step: int = 0
    best_ap: float = -1.0
    best_step: int = 0
    validations_without_gain: int = 0
    validation_due: bool = False
    skipped_images: list[int] = field(default_factory=list)
    skipped_steps: int = 0


@dataclass(frozen=True)
class State:
    """The parts of a run that change as it goes."""

    progress: Progress
    detector: Detector
    optimizer: Optimizer
    average: Average | None
    scaler: torch.amp.GradScaler | None


def save(folder: Path, state: State, experiment: dict[str, Any]) -> None:
    """Write the state; the previous one stays until this one is complete.

    The folder that ``folder`` is in is not made: it may be on a disk that is away, and what is written in its
    place would be hidden when that comes back.

    Raises:
        OSError: it cannot be written. The previous state is untouched.
    """
    folder.mkdir(exist_ok=True)
    name, named = f"tensors-{state.progress.step:08d}.safetensors", _tensors_of(folder)
    if named is not None or not is_saved(folder):  # else it is not known which tensors are needed
        _remove_stale(folder, named)  # what a kill left may be what fills the disk
    moments, scalars = _optimizer_state(state)
    if name != named:  # weights change with the step alone
        tensors = _prefixed("detector", state.detector.state_dict()) | _prefixed("optimizer", moments)
        if state.average is not None:
            tensors |= _prefixed("average", state.average.module.state_dict())
        store.write_tensors(folder / name, tensors, {"step": str(state.progress.step)})
    rest = {
        "version": _VERSION,
        "tensors": name,
        "progress": asdict(state.progress),
        "optimizer": scalars,
        "average_count": 0 if state.average is None else state.average.count,
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "experiment": experiment,
        "categories": state.detector.categories,
    }
    store.write_text(folder / _STATE, json.dumps(rest, indent=1))
    _remove_stale(folder, name)


def is_saved(folder: Path) -> bool:
    """Whether a state was saved in ``folder``."""
    return (folder / _STATE).exists()


def read_experiment(folder: Path) -> dict[str, Any]:
    """The settings of the run whose state lies in ``folder``."""
    return _read_json(folder)["experiment"]


def read_images_per_step(folder: Path) -> int | None:
    """What a step of the run has whose state lies in ``folder``; None where an older state does not say."""
    return _read_json(folder)["progress"].get("images_per_step")


def restore(folder: Path, state: State) -> None:
    """Put the saved state into the parts of ``state``. DetrkitError where it is damaged or does not fit."""
    rest = _read_json(folder)
    path = folder / rest["tensors"]
    categories = tuple(Category(*row) for row in rest["categories"])
    require_same_categories(state.detector.categories, categories, "the dataset of the resumed run")
    tensors, _ = store.read_tensors(path)
    try:
        state.detector.load_state_dict(_unprefixed("detector", tensors))
        if state.average is not None:
            state.average.module.load_state_dict(_unprefixed("average", tensors))
            state.average.count = rest["average_count"]
        _restore_optimizer(state, _unprefixed("optimizer", tensors), rest["optimizer"])
        if state.scaler is not None:
            state.scaler.load_state_dict(rest["scaler"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DetrkitError(f"{path} does not fit the run's settings: {reason}") from None
    for name, value in rest["progress"].items():
        setattr(state.progress, name, value)


def _tensors_of(folder: Path) -> str | None:
    """The name of the tensors file that belongs to the state there; None where none can be read."""
    try:
        return json.loads((folder / _STATE).read_text("utf-8"))["tensors"]
    except (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _remove_stale(folder: Path, tensors: str | None) -> None:
    """Remove tensors that no state names, and what kills left of saves. What others put there stays."""
    for stale in folder.iterdir():
        if _UNFINISHED.fullmatch(stale.name) or (_TENSORS.fullmatch(stale.name) and stale.name != tensors):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / _STATE
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DetrkitError(
            f"there is no training state to resume from in {folder}: start without --resume."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DetrkitError(f"{path} is damaged ({error}): start another run.") from None
    if not isinstance(found, dict) or found.get("version") != _VERSION or not found.keys() >= _ENTRIES:
        raise DetrkitError(f"{path} is not a training state of version {_VERSION}.")
    if not _TENSORS.fullmatch(str(found["tensors"])):
        raise DetrkitError(f"{path} names the tensors {shown(found['tensors'])}, which is no file beside it.")
    return found


def _names(state: State) -> list[tuple[str, Tensor]]:
    return [
        (name, parameter) for name, parameter in state.detector.named_parameters() if parameter.requires_grad
    ]


def _optimizer_state(state: State) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """What the optimiser remembers of each parameter: its moments, and the scalars apart."""
    moments: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, float]] = {}
    for name, parameter in _names(state):
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if value.ndim:
                moments[f"{key}.{name}"] = value
            else:
                scalars.setdefault(name, {})[key] = value.item()
    return moments, scalars


def _restore_optimizer(
    state: State, moments: dict[str, Tensor], scalars: dict[str, dict[str, float]]
) -> None:
    parameters = dict(_names(state))
    for name, values in scalars.items():
        parameter = parameters[name]
        # where fused optimisers have it, which count on the device
        kept = {
            key: torch.tensor(value, dtype=torch.float32, device=parameter.device)
            for key, value in values.items()
        }
        state.optimizer.state[parameter].update(kept)
    for full_name, moment in moments.items():
        key, _, name = full_name.partition(".")
        parameter = parameters[name]
        # a copy, since what was read is mapped: the next save could not give back the room of its file
        state.optimizer.state[parameter][key] = moment.to(parameter, copy=True)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _unprefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
