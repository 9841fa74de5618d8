"""Between the names of tensors here and those in other layouts.

A layout is one function from a name here to a ``Place`` there. Reading asks it for every tensor that a
detector wants, writing for every tensor that it has; so one table serves both, and none is forgotten.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.errors import DetrkitError, shown
from detrkit.models.detr import build_detr
from detrkit.scoring import build_scoring
from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.weights.store import Stored


class Place(NamedTuple):
    """Where a tensor stands in another layout.

    ``part`` is which of ``parts`` equal slices of the rows it is, where that layout stacks several.
    """

    name: str
    part: int = 0
    parts: int = 1


Layout = Callable[[str], Place]
"""From a name in a DETR network here to its place there."""
Rules = Sequence[tuple[str, str]]
"""Patterns of whole names, and what to make of them."""

OF_DETR: dict[str, object] = {
    "model.backbone.norm": "frozen",
    "model.backbone.levels": ["layer4"],
    "model.transformer.activation": "relu",
    "model.encoder.temperature": 10_000,
    "model.encoder.modulate_position": False,
    "model.decoder.kind": "plain",
    "scoring.kind": "softmax",
}
"""The settings that DETR leaves no choice in."""
_PREFIX = "network."
"""A detector's state holds its network's under this."""


def rename(name: str, rules: Rules) -> str:
    """The name after the first rule whose pattern matches all of it; DetrkitError if none does."""
    for pattern, replacement in rules:
        if found := re.fullmatch(pattern, name):
            return found.expand(replacement)
    raise DetrkitError(f"{shown(name)} has no place in that layout.")


def to_stored(
    theirs: Mapping[str, Tensor],
    layout: Layout,
    experiment: Experiment,
    categories: tuple[Category, ...],
    source: str,
) -> Stored:
    """A detector's state from tensors in another layout, each of which must have its place here.

    Raises:
        DetrkitError: where a tensor is missing, has another shape, or has no use here.
    """
    wanted = _network_on_meta(experiment, len(categories))
    found = {_PREFIX + name: _cut(theirs, layout(name), tensor, source) for name, tensor in wanted.items()}
    places = {layout(name).name for name in wanted}
    extra = sorted(name for name in theirs if name not in places)
    if extra:
        raise DetrkitError(
            f"{source} has {len(extra)} tensors that its model has no use for, such as {shown(extra[0])}."
        )
    return Stored(experiment, categories, found)


def from_stored(stored: Stored, layout: Layout) -> dict[str, Tensor]:
    """The tensors of a DETR under the names of another layout, stacked where it stacks them."""
    parts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in stored.tensors.items():
        place = layout(name.removeprefix(_PREFIX))
        parts[place.name][place.part] = tensor
    return {name: _join(found[part] for part in sorted(found)) for name, found in parts.items()}


def require_settings(experiment: Experiment, path: Path, whose: str, wanted: Mapping[str, object]) -> None:
    """Refuse to write a detector to ``path`` if a setting is none of the one value that is known there."""
    detr_settings(experiment, f"writing {path} for {whose}")
    dumped = experiment.model_dump(mode="json")
    for name, value in wanted.items():
        found = reduce(getitem, name.split("."), dumped)
        if found != value:
            raise DetrkitError(
                f"{path} cannot be written: {whose} has {name} {value} only, not {found}; a .safetensors "
                "file of detrkit's holds every detector."
            )


def _network_on_meta(experiment: Experiment, num_classes: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        model = detr_settings(experiment, "that layout")
        return build_detr(model, build_scoring(experiment.scoring), num_classes).state_dict()


def _cut(theirs: Mapping[str, Tensor], place: Place, wanted: Tensor, source: str) -> Tensor:
    if place.name not in theirs:
        raise DetrkitError(f"{source} lacks the tensor '{place.name}' that its model needs.")
    stacked = theirs[place.name]
    expected = (wanted.shape[0] * place.parts, *wanted.shape[1:]) if wanted.ndim else ()
    if stacked.shape != expected:
        raise DetrkitError(
            f"{source}: '{place.name}' has shape {tuple(stacked.shape)}, expected {tuple(expected)}."
        )
    return stacked.chunk(place.parts)[place.part].clone() if wanted.ndim else stacked.clone()


def _join(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat(found) if len(found := list(parts)) > 1 else found[0].clone()
