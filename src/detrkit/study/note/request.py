"""What a user asks of a note, checked before anything is measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import parse_overrides
from detrkit.settings.training import parse_duration
from detrkit.study.note.family import BACKBONES, family_of, require_backbones

Kind = Literal["note", "full"]
"""A note within a budget, or one whose runs have their recipes' own lengths."""

DEFAULT_BUDGET = "2h"

_SET_BY_THE_STUDY = {
    "model.backbone.name": "--backbones",
    "train.epochs": "--budget",
    "train.max_steps": "--budget",
    "train.budget": "--budget",
    "train.validate_every": "the plan",
    "train.patience": "the plan",
    "train.seed": "--seed",
}


class Request(NamedTuple):
    """What is asked. The first of ``recipes`` is the base; the others are compared with it.

    ``budget`` is as it was written, None for a full note; ``overrides`` are settings of all recipes.
    """

    kind: Kind
    data: Path
    budget: str | None
    seed: int
    recipes: tuple[str, ...]
    backbones: tuple[str, str]
    overrides: Mapping[str, object]
    command: str

    def asked(self) -> dict[str, Any]:
        """All that decides what is done, as plain values."""
        return {
            "plan": self.kind,
            "recipes": list(self.recipes),
            "backbones": list(self.backbones),
            "budget": self.budget,
            "seed": self.seed,
            "set": {name: _plain(value) for name, value in self.overrides.items()},
        }


def read_request(
    kind: Kind,
    data: Path,
    recipes: Sequence[str],
    *,
    train_images: int,
    budget: str | None = None,
    seed: int = 0,
    backbones: str | None = None,
    assignments: Sequence[str] = (),
    command: str = "",
) -> Request:
    """What these texts ask for: ``backbones`` as SMALLER,LARGER, ``assignments`` as NAME=VALUE.

    Without ``recipes``, they follow from the number of images to train on.

    Raises:
        DetrkitError: where one of them is at fault.
    """
    overrides = parse_overrides(list(assignments))
    for name in overrides:
        if name in _SET_BY_THE_STUDY:
            raise DetrkitError(
                f"--set {name} is decided by the study, through {_SET_BY_THE_STUDY[name]}: leave it out."
            )
    if kind == "full" and budget is not None:
        raise DetrkitError(
            f"--budget {budget} is for --plan note: the runs of a full note are as long as their recipes say."
        )
    return Request(
        kind=kind,
        data=data,
        budget=None if kind == "full" else _checked(budget or DEFAULT_BUDGET),
        seed=seed,
        recipes=family_of(recipes, kind, train_images),
        backbones=BACKBONES if backbones is None else require_backbones(backbones),
        overrides=overrides,
        command=command,
    )


def _checked(budget: str) -> str:
    try:
        parse_duration(budget)
    except ValueError as error:
        raise DetrkitError(f"--budget: {error}.") from None
    return budget


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
