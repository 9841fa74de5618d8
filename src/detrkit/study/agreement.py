"""What recipes must have in common to be compared: all but the decoder, its objective and its rates."""

from collections.abc import Iterator, Mapping
from typing import Any

from detrkit.errors import DetrkitError, shown
from detrkit.settings.experiment import Experiment

_OWN = (
    "model.decoder",
    # these stand elsewhere, but come with a decoder's paper
    "model.encoder.temperature",
    "model.encoder.modulate_position",
    "model.transformer.activation",
    "model.transformer.dropout",
    "scoring",
    "matching",
    "loss",
    "optim.lr",
    "optim.backbone_lr",
    "schedule",
)
"""A recipe's own: a setting, or a section with all in it."""

_ASIDE = (
    "train.epochs",
    "train.max_steps",
    "train.budget",
    "train.seed",
    "train.validate_every",
    "train.patience",
    "train.checkpoint_every",
    "published",
)
"""The study sets these itself, or no number depends on them."""


def require_agreement(recipes: Mapping[str, Experiment]) -> None:
    """DetrkitError, naming the setting and both values, where a recipe differs in what all must share."""
    (first, expected), *others = recipes.items()
    for name, experiment in others:
        for setting, left, right in differences(_plain(expected), _plain(experiment)):
            if not _within(setting, _OWN + _ASIDE):
                raise DetrkitError(
                    f"{setting} is {told(left)} in {first}, but {told(right)} in {name}: recipes that are "
                    "compared may differ only in decoder, scoring, matching, loss, learning rates and their "
                    f"schedule, so make it the same for all with --set {setting}=VALUE."
                )


def shared_settings(recipes: Mapping[str, Experiment]) -> dict[str, Any]:
    """Dotted name and value of what all have in common, of those that agree."""
    first, *others = (flat(_plain(experiment)) for experiment in recipes.values())
    return {
        name: value
        for name, value in first.items()
        if not _within(name, _ASIDE) and all(name in other and other[name] == value for other in others)
    }


def own_settings(recipes: Mapping[str, Experiment]) -> dict[str, list[Any]]:
    """Dotted name of what is not the same in all, with the value in each recipe, None where it has none."""
    trees = [flat(_plain(experiment)) for experiment in recipes.values()]
    names = dict.fromkeys(name for tree in trees for name in tree if _within(name, _OWN))
    values = {name: [tree.get(name) for tree in trees] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, left value, right value) where two trees differ; what one lacks is None there."""
    flat_left, flat_right = flat(left), flat(right)
    for name in flat_left | flat_right:
        if flat_left.get(name) != flat_right.get(name):
            yield name, flat_left.get(name), flat_right.get(name)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree by dotted name."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def told(value: object) -> str:
    """A setting's value in a sentence."""
    return "unset" if value is None else shown(value)


def _plain(experiment: Experiment) -> dict[str, Any]:
    return experiment.model_dump(mode="json")


def _within(setting: str, places: tuple[str, ...]) -> bool:
    return any(setting == place or setting.startswith(f"{place}.") for place in places)
