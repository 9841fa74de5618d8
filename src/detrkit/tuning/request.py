"""What a user asks of a study of settings, checked before anything is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, parse_overrides, recipe
from detrkit.settings.section import describe
from detrkit.settings.training import parse_duration
from detrkit.tuning.space import Search, read_searches, require_settings, written


class Request(NamedTuple):
    """What is asked. ``budget`` is the seconds of all trials; None gives each the recipe's length."""

    recipe: str
    overrides: Mapping[str, object]
    data: Path
    trials: int
    budget: float | None
    searches: Sequence[Search]
    seed: int
    init: Path | None
    command: str

    def experiment(self, settings: Mapping[str, Any] | None = None) -> Experiment:
        """The recipe with what was set, and with the settings of a trial."""
        return recipe(self.recipe, {**self.overrides, **(settings or {})})

    def asked(self) -> dict[str, Any]:
        """All that workers of one study must agree on, by name. Where the data lies is each one's own."""
        settings = {name: value for name, value, _ in describe(self.experiment())}
        return settings | {
            "--search": ", ".join(sorted(written(search) for search in self.searches)),
            "--seed": self.seed,
            "--init": None if self.init is None else self.init.name,
            "--budget": self.budget,
            # the length of a trial follows from both
            "--trials": None if self.budget is None else self.trials,
        }


def read_request(
    recipe_or_file: str,
    data: Path,
    trials: int,
    *,
    budget: str | None = None,
    searches: Sequence[str] = (),
    assignments: Sequence[str] = (),
    seed: int = 0,
    init: Path | None = None,
    command: str = "",
) -> Request:
    """What these texts ask for: ``budget`` as 30m, ``searches`` and ``assignments`` as on the command line.

    Raises:
        DetrkitError: where one of them is at fault.
    """
    overrides = parse_overrides(list(assignments))
    for name, instead in {"train.seed": "--seed", "train.budget": "--budget"}.items():
        if name in overrides:
            raise DetrkitError(f"--set {name} is decided by the study: say it with {instead}.")
    request = Request(
        recipe=recipe_or_file,
        overrides=overrides | {"train.seed": seed},
        data=data,
        trials=trials,
        budget=None if budget is None else _seconds(budget),
        searches=read_searches(searches, fixed=overrides),
        seed=seed,
        init=init,
        command=command,
    )
    request.experiment()  # a fault in what is set has nothing to do with what is searched
    require_settings(request.searches, request.experiment)
    return request


def _seconds(budget: str) -> float:
    try:
        return parse_duration(budget)
    except ValueError as error:
        raise DetrkitError(f"--budget: {error}.") from None
