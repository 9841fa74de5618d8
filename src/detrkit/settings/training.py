"""How the weights are found. Defaults are DETR's (Carion et al. 2020, appendix A.4)."""

import re
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    field_validator,
    model_validator,
)

from detrkit.errors import shown
from detrkit.settings.section import Count, CountOrZero, Section, kind_unless_given

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]

_LONGEST = 1e9
"""Seconds, some thirty years: no run takes longer."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class AdamWSettings(Section):
    """AdamW, with a learning rate of its own for the backbone."""

    kind: Literal["adamw"] = "adamw"
    """Which optimiser: `adamw`, or `sgd` (with momentum)."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate of everything but the backbone."""
    backbone_lr: NonNegativeFloat = 1e-5
    """Learning rate of the backbone."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay, of all parameters alike."""
    clip_norm: NonNegativeFloat = 0.1
    """Largest norm of the gradient of a step; 0 does not clip."""


class SgdSettings(Section):
    """Stochastic gradient descent with momentum. Defaults are those of torchvision's Faster R-CNN."""

    kind: Literal["sgd"] = "sgd"
    """Which optimiser."""
    lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of everything but the backbone."""
    backbone_lr: NonNegativeFloat = 0.02
    """Learning rate of the backbone."""
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Part of the previous update that the next one begins with."""
    weight_decay: NonNegativeFloat = 1e-4
    """What is added to the gradient, times the weights, of all parameters alike."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the gradient of a step; 0 does not clip."""


OptimSettings = Annotated[
    AdamWSettings | SgdSettings, Field(discriminator="kind"), kind_unless_given("adamw")
]


class ScheduleSettings(Section):
    """The learning rate as a function of the step. Times are fractions of the run, whatever its length."""

    warmup: Fraction = 0.0
    """The rate rises linearly from 0 during this fraction of the run."""
    drop_at: Fraction = 2 / 3
    """The rate is multiplied by `drop_factor` from this fraction on; 1 never drops it."""
    drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """What the rate is multiplied by at `drop_at`."""

    @model_validator(mode="after")
    def _check(self) -> "ScheduleSettings":
        if self.warmup > self.drop_at:
            raise ValueError(f"warmup is {self.warmup}, after the drop at {self.drop_at}")
        return self


class TrainSettings(Section):
    """The length, precision and bookkeeping of a run."""

    epochs: Count = 300
    """How often every image is seen, unless `max_steps` or `budget` says otherwise."""
    max_steps: Count | None = None
    """Length of the run in optimiser steps, instead of `epochs`."""
    budget: str | None = None
    """Length of the run as a time, such as `5m` or `2h`. It is turned into `max_steps` once, at the
    start, by timing this machine."""
    accumulate: Count = 1
    """Forward passes per optimiser step: the same gradient as one batch as many times as large."""
    precision: Literal["bf16", "fp16", "fp32", "fp64"] = "fp32"
    """`bf16` and `fp16` run the network under autocast; boxes, costs and losses stay in float32."""
    compile: bool = False
    """Have torch.compile write kernels for the network, which takes minutes at the start and pays off in
    long runs. It needs a C++ compiler, and on a GPU triton. Results differ in their last digits, and random
    numbers are drawn in another way."""
    activation_checkpointing: bool = False
    """Keep no activations inside layers and residual blocks, and compute them anew in the backward pass: the
    same results with less memory, in about a third more time. Blocks with batch normalisation keep theirs,
    whose statistics would be counted twice."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights, which is then what is validated and kept; 0 has none.
    It is ramped: after n steps at most (1 + n) / (10 + n), so that a short run is not held back."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides initial weights, order, augmentation and dropout."""
    deterministic: bool = False
    """Have torch use algorithms alone that give the same bits every time, which can be slower, and stop where
    it has none. Runs on one machine with the same settings and number of processes are then equal,
    however many `data.workers` there are."""
    max_skipped_steps: CountOrZero = 0
    """How many steps whose loss or gradient is not finite a run may skip, each without any change to weights,
    moments, average and statistics; 0 stops it at the first."""
    validate_every: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    """Epochs, or a fraction of one, between validations; there is always one at the end."""
    validate_raw: bool = True
    """Where there is a moving average, validate the weights themselves too, which doubles the time of a
    validation. What is kept is decided by the average alone."""
    patience: Count | None = None
    """Stop after this many validations without a better AP."""
    checkpoint_every: Count = 500
    """Steps between saves of the training state. Every validation saves it too."""
    update_ratio_every: Count = 10
    """Steps between measurements of how far an update moves the weights, for which they are copied."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Where curves go besides `log.jsonl`: `tensorboard`, `wandb`, `mlflow`, `trackio`. Only the first comes
    with detrkit; the others are packages of these names to install."""

    @field_validator("budget")
    @classmethod
    def _check_budget(cls, budget: str | None) -> str | None:
        if budget is not None:
            parse_duration(budget)
        return budget

    @model_validator(mode="after")
    def _check(self) -> "TrainSettings":
        if self.max_steps is not None and self.budget is not None:
            raise ValueError(
                f"max_steps ({self.max_steps}) and budget ({self.budget}) both say how long to train"
            )
        return self


def parse_duration(text: str) -> float:
    """Seconds in a duration such as ``90s``, ``5m``, ``2h`` or ``1.5h``; ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 1e-6 <= seconds <= _LONGEST:
        raise ValueError(f"{shown(text)} is not a duration such as 90s, 5m or 2h")
    return seconds
