"""The training state on disk: everything that changes and is not a function of the step.

``last/`` holds one safetensors file (weights, the optimiser's moments, the moving average) and ``state.json``
(the rest), which names it. The json is replaced last, in one rename, after the tensors were read back:
whenever a run is killed or its disk is full, it names a complete file. The order of images, augmentation,
dropout and learning rate need no place here, since they are functions of the seed and the step.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from detrkit.catalog import Category, require_same_categories
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError, shown
from detrkit.reading import Count, Finite
from detrkit.training.averaging import Average
from detrkit.weights import store

_VERSION = 1
_STATE = "state.json"
_TENSORS = re.compile(r"tensors-\d+\.safetensors")
_UNFINISHED = re.compile(r"\.tensors-\d+\.safetensors\.writing|\.state\.json\.tmp")


@dataclass
class Progress:
    """How far a run is, in steps of ``images_per_step`` on any number of processes, and how well it did.

    ``validation_due``: the validation after ``step`` is not done yet. ``judged_on`` is the digest of the
    split that ``best_ap`` is of, empty before the first validation and in older states.
    """

    step: Count = 0
    images_per_step: Count = 0
    best_ap: Finite = -1.0
    best_step: Count = 0
    judged_on: str = ""
    validations_without_gain: Count = 0
    validation_due: bool = False
    skipped_images: list[int] = field(default_factory=list)
    skipped_steps: Count = 0


class _Saved(msgspec.Struct):
    """``state.json``."""

    version: Literal[1]
    tensors: str
    progress: Progress
    optimizer: dict[str, dict[str, float]]
    average_count: int
    scaler: dict[str, float] | None
    experiment: dict[str, Any]
    categories: list[Category]


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
    if not folder.exists():
        folder.mkdir()
        store.flush(folder.parent)
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
    return _read_json(folder).experiment


def read_images_per_step(folder: Path) -> int:
    """What a step of the run has whose state lies in ``folder``; 0 where an older state does not say."""
    return _read_json(folder).progress.images_per_step


def restore(folder: Path, state: State) -> None:
    """Put the saved state into the parts of ``state``. DetrkitError where it is damaged or does not fit."""
    saved = _read_json(folder)
    path = folder / saved.tensors
    require_same_categories(
        state.detector.categories, tuple(saved.categories), "the dataset of the resumed run"
    )
    tensors, _ = store.read_tensors(path)
    try:
        state.detector.load_state_dict(_unprefixed("detector", tensors))
        if state.average is not None:
            state.average.module.load_state_dict(_unprefixed("average", tensors))
            state.average.count = saved.average_count
        _restore_optimizer(state, _unprefixed("optimizer", tensors), saved.optimizer)
        if state.scaler is not None:
            state.scaler.load_state_dict(saved.scaler or {})
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DetrkitError(f"{path} does not fit the run's settings: {reason}") from None
    for part in fields(Progress):
        setattr(state.progress, part.name, getattr(saved.progress, part.name))


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


def _read_json(folder: Path) -> _Saved:
    path = folder / _STATE
    try:
        saved = msgspec.convert(json.loads(path.read_text("utf-8")), _Saved)
    except (FileNotFoundError, NotADirectoryError):
        raise DetrkitError(
            f"there is no training state to resume from in {folder}: start without --resume."
        ) from None
    except msgspec.ValidationError as error:
        raise DetrkitError(f"{path} is not a training state of version {_VERSION} ({error}).") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DetrkitError(f"{path} is damaged ({error}): start another run.") from None
    if not _TENSORS.fullmatch(saved.tensors):
        raise DetrkitError(f"{path} names the tensors {shown(saved.tensors)}, which is no file beside it.")
    return saved


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
    if isinstance(state.optimizer, AdamW) and {name.partition(".")[2] for name in moments} != scalars.keys():
        raise KeyError("the optimiser's counts are not those of its moments")
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
