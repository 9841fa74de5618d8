"""What a user asks of a study, checked before anything is measured."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, parse_overrides, recipe
from detrkit.settings.training import parse_duration
from detrkit.study.agreement import require_agreement

DEFAULT_RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates that are tried."""

_SET_BY_THE_STUDY = {
    "optim.lr": "--rate",
    "train.epochs": "--budget",
    "train.max_steps": "--budget",
    "train.budget": "--budget",
    "train.seed": "--seed",
}


class Request(NamedTuple):
    """What is asked. ``budget`` and those of ``longer`` are seconds."""

    command: str
    data: Path
    budget: float
    rates: tuple[float, ...]
    seed: int
    recipes: dict[str, Experiment]
    longer: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """All that decides what is trained, as plain values."""
        settings = {name: experiment.model_dump(mode="json") for name, experiment in self.recipes.items()}
        return {
            "recipes": sorted(self.recipes),
            "data": str(self.data.resolve()),
            "budget": self.budget,
            "rates": sorted(self.rates),
            "seed": self.seed,
            "longer": self.longer,
            "settings": settings,
        }


def read_request(
    recipes: Sequence[str],
    data: Path,
    budget: str,
    *,
    rates: Sequence[float] = DEFAULT_RATES,
    seed: int = 0,
    longer: Sequence[str] = (),
    assignments: Sequence[str] = (),
    command: str = "",
) -> Request:
    """What these texts ask for: ``budget`` as 5m, ``longer`` as RECIPE=20m, ``assignments`` as NAME=VALUE.

    ``command`` is noted beside the results, as what asks the same again.

    Raises:
        DetrkitError: where one of them is at fault, or the recipes differ in more than may be compared.
    """
    overrides = _overrides(assignments)
    names = [recipe_name(text) for text in recipes]
    _require_once("recipe", names)
    _require_once("--rate", [f"{rate:g}" for rate in rates])
    for rate in rates:
        if not 0 < rate < math.inf:
            raise DetrkitError(f"--rate {rate:g} is no learning rate: give one above 0, such as 3e-4.")
    experiments = {
        name: recipe(text, overrides | {"train.seed": seed})
        for name, text in zip(names, recipes, strict=True)
    }
    require_agreement(experiments)
    return Request(
        command=command,
        data=data,
        budget=_seconds("--budget", budget),
        rates=tuple(rates),
        seed=seed,
        recipes=experiments,
        longer=_longer(longer, experiments),
    )


def recipe_name(text: str) -> str:
    """A recipe's name: its own, or that of its file."""
    return Path(text).stem if text.endswith(".toml") else text


def _overrides(assignments: Sequence[str]) -> dict[str, object]:
    overrides = parse_overrides(list(assignments))
    for name in overrides:
        if name in _SET_BY_THE_STUDY:
            raise DetrkitError(
                f"--set {name} is decided by the study: say it with {_SET_BY_THE_STUDY[name]}."
            )
    return overrides


def _require_once(what: str, given: Sequence[str]) -> None:
    for text in given:
        if given.count(text) > 1:
            raise DetrkitError(f"{what} {text} is given {given.count(text)} times: give it once.")


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise DetrkitError(f"{option}: {error}.") from None


def _longer(given: Sequence[str], recipes: Mapping[str, Experiment]) -> dict[str, float]:
    parts = [text.rpartition("=") for text in given]
    names = [recipe_name(name) for name, _, _ in parts]
    for name, text in zip(names, given, strict=True):
        if not name:
            raise DetrkitError(
                f"--longer {text}: write it as RECIPE=DURATION, such as {next(iter(recipes))}=20m."
            )
        if name not in recipes:
            raise DetrkitError(
                f"--longer {text}: {name} is not a recipe of this study, which are {', '.join(recipes)}."
            )
    _require_once("--longer", names)
    durations = [
        _seconds(f"--longer {text}", duration) for text, (_, _, duration) in zip(given, parts, strict=True)
    ]
    return dict(zip(names, durations, strict=True))
