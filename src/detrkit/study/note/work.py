"""What the steps of a note work with: its plan, its data and its folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.reading import read_json
from detrkit.settings.experiment import Experiment
from detrkit.study.note.events import Listener
from detrkit.study.note.plan import Plan, Run

_MOST = 1 << 30
"""Bytes of the result of a step, which has the curves of all of its runs."""


class Work(NamedTuple):
    """A note at work. Its folder holds ``runs/NAME`` and ``results/STEP.json``."""

    plan: Plan
    data: Path
    out: Path
    listener: Listener

    def folder(self, name: str) -> Path:
        """The run folder of that name."""
        return self.out / "runs" / name

    def has_weights(self, name: str) -> bool:
        """Whether a run has come to a validation, and so has weights."""
        return (self.folder(name) / "model.safetensors").exists()

    def result(self, step: str) -> Any:
        """What came of a step that is over; None of one that is not."""
        path = self.out / "results" / f"{step}.json"
        try:
            return read_json(path, Any, _MOST) if path.exists() else None
        except (OSError, ValueError) as error:
            raise DetrkitError(
                f"{path} cannot be read ({error}): delete it, and its step is done again."
            ) from None

    def keep(self, step: str, result: Any) -> None:
        """Write down what came of a step, in one rename."""
        path = self.out / "results" / f"{step}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, result)


def write_json(path: Path, value: Any) -> None:
    """Write a file for people and programs, in one rename."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(
        json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8", errors="backslashreplace"
    )
    unfinished.replace(path)


def lasting(run: Run, train_images: int) -> Experiment:
    """A run's settings with the length that is planned for it."""
    settings, amount = run.settings, run.amount
    epochs = amount.steps * settings.data.batch_size * settings.train.accumulate / train_images
    length = {
        "max_steps": amount.steps,
        "budget": None,
        # a hair less, so that rounding does not put a validation one step off
        "validate_every": epochs / amount.validations * (1 - 1e-9),
        "patience": None,
    }
    return settings.model_copy(update={"train": settings.train.model_copy(update=length)})
