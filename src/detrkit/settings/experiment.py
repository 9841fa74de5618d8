"""All settings of one run, and the recipes and files that they come from.

An experiment is a recipe (a TOML file that says only what differs from the defaults) and the user's
overrides (``optim.lr=2e-4``). Each consumer receives its own section, never the whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field, model_validator

from detrkit.errors import DetrkitError, shown
from detrkit.settings.classical import (
    FasterRcnnSettings,
    FcosSettings,
    MaskRcnnSettings,
    RetinaNetSettings,
    Ssd300Settings,
    SsdLite320Settings,
)
from detrkit.settings.data import DataSettings
from detrkit.settings.model import DetrSettings
from detrkit.settings.objective import LossSettings, MatchingSettings, ScoringSettings, SoftmaxSettings
from detrkit.settings.published import PublishedSettings
from detrkit.settings.recipes import recipe_names, recipe_text
from detrkit.settings.section import (
    Section,
    describe,
    did_you_mean,
    kind_unless_given,
    read_section,
    setting_names,
)
from detrkit.settings.toml import NotTomlError, parse_toml, read_toml
from detrkit.settings.training import AdamWSettings, OptimSettings, ScheduleSettings, TrainSettings

ModelSettings = Annotated[
    DetrSettings
    | FasterRcnnSettings
    | MaskRcnnSettings
    | RetinaNetSettings
    | FcosSettings
    | Ssd300Settings
    | SsdLite320Settings,
    Field(discriminator="kind"),
    kind_unless_given("detr"),
]


class Experiment(Section):
    """All settings of one run."""

    data: DataSettings = DataSettings()
    model: ModelSettings = DetrSettings()
    scoring: ScoringSettings = SoftmaxSettings()
    matching: MatchingSettings = MatchingSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = AdamWSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    published: PublishedSettings = PublishedSettings()

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        if not isinstance(self.model, DetrSettings):
            _refuse_detrs_settings(self)
        if isinstance(self.model, Ssd300Settings | SsdLite320Settings):
            _refuse_what_ssd_lacks(self, 300 if self.model.kind == "ssd300" else 320)
        return self


def detr_settings(experiment: Experiment, what: str) -> DetrSettings:
    """The settings of a DETR; a DetrkitError that ``what`` is for DETR only, where they are another's."""
    if isinstance(experiment.model, DetrSettings):
        return experiment.model
    raise DetrkitError(
        f"{what} is for DETR only, but this detector is of model.kind '{experiment.model.kind}'."
    )


def recipe(name_or_path: str | Path, overrides: Mapping[str, object] | None = None) -> Experiment:
    """The settings of a recipe (its name, or a TOML file) with overrides such as ``{"optim.lr": 2e-4}``."""
    tree, source = _read_recipe(str(name_or_path))
    return parse(tree, source, overrides)


def parse(tree: dict[str, Any], source: str, overrides: Mapping[str, object] | None = None) -> Experiment:
    """The experiment that a tree of plain values describes; ``source`` is named in errors."""
    known = setting_names(Experiment)
    for key, value in (overrides or {}).items():
        if key not in known:
            raise DetrkitError(f"there is no setting {shown(key)}{did_you_mean(key, known)}")
        _put(tree, key, value, source)
    return read_section(Experiment, tree, source)


def parse_overrides(assignments: list[str]) -> dict[str, object]:
    """``["optim.lr=2e-4", "train.precision=bf16"]`` as a mapping; values are TOML, or else plain text."""
    return dict(_parse_assignment(assignment) for assignment in assignments)


def to_toml(experiment: Experiment) -> str:
    """The whole experiment as TOML that ``recipe`` reads back to an equal one. Unset options are left out."""
    return tomli_w.dumps(experiment.model_dump(exclude_none=True, mode="json"))


def _refuse_detrs_settings(experiment: Experiment) -> None:
    """Refuse settings of the set loss, which would have no effect."""
    for name, ours, usual in (
        ("scoring", experiment.scoring, SoftmaxSettings()),
        ("matching", experiment.matching, MatchingSettings()),
        ("loss", experiment.loss, LossSettings()),
    ):
        defaults = {key: value for key, value, _ in describe(usual)}
        for key, value, _ in describe(ours):
            if defaults.get(key) != value:
                raise ValueError(
                    f"{name}.{key} is {value}, but only model.kind 'detr' has this setting, and the kind is "
                    f"'{experiment.model.kind}': leave it out"
                )


def _refuse_what_ssd_lacks(experiment: Experiment, side: int) -> None:
    if experiment.data.max_size > side:
        raise ValueError(
            f"data.max_size is {experiment.data.max_size}, but {experiment.model.kind} sees at most {side} x "
            f"{side} pixels: set data.max_size to {side}, and data.short_sides to no more"
        )
    if experiment.train.activation_checkpointing:
        raise ValueError(
            f"train.activation_checkpointing is true, but {experiment.model.kind} has no residual blocks of "
            "a ResNet to do it for: set it to false"
        )


def _read_recipe(name: str) -> tuple[dict[str, Any], str]:
    if name in recipe_names():
        return parse_toml(recipe_text(name)), f"recipe {name}"
    if name.endswith(".toml"):
        try:
            return read_toml(Path(name)), name
        except NotTomlError as error:
            raise DetrkitError(f"{name} is not TOML: {error}.") from None
        except (OSError, ValueError) as error:
            raise DetrkitError(f"the recipe {name} cannot be read: {error}.") from None
    raise DetrkitError(
        f"there is no recipe {shown(name)}{did_you_mean(name, recipe_names())} "
        f"The recipes are {', '.join(recipe_names())}, or a .toml file."
    )


def _parse_assignment(assignment: str) -> tuple[str, object]:
    key, equals, text = assignment.partition("=")
    if not equals:
        raise DetrkitError(
            f"{shown(assignment)} is not a setting: write it as name=value, such as optim.lr=2e-4."
        )
    try:
        value = parse_toml(f"value = {text}")["value"]
    except NotTomlError:
        value = text
    return key.strip(), value


def _put(tree: dict[str, Any], key: str, value: object, source: str) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise DetrkitError(f"{source}: '{section}' must be a table of settings.")
    tree[leaf] = value
