"""Starting weights from another detector of the same architecture, for the same or other classes.

Every tensor of both sides is accounted for, so that nobody has to guess what was loaded.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment
from detrkit.weights.store import Stored

What = Literal["copied", "adapted", "fresh", "unused"]


class Row(NamedTuple):
    """What became of one tensor: of the new detector or, if ``unused``, of the old one."""

    name: str
    what: What
    elements: int
    reason: str = ""


class Transfer(NamedTuple):
    """A new detector's state, and where every tensor of it is from."""

    tensors: dict[str, Tensor]
    rows: list[Row]


def transfer(
    source: Stored, fresh: dict[str, Tensor], experiment: Experiment, categories: tuple[Category, ...]
) -> Transfer:
    """The state ``fresh`` of a new detector with what the ``source`` has for it put in.

    A tensor of equal shape is copied. Of the class head and of denoising's labels, rows are copied by
    category name, and 'no object' as itself; classes that the source lacks keep their fresh rows. The
    whole class head stays fresh if ``scoring.kind`` differs, since a logit then means something else. Of
    the object queries and of the anchors, the first ones are taken. All else stays fresh.

    Raises:
        DetrkitError: where the backbones differ, so that their weights mean different things.
    """
    _require_same_backbone(source.experiment, experiment)
    tensors, rows = {}, []
    there, here = source.experiment.scoring.kind, experiment.scoring.kind
    for name, tensor in fresh.items():
        old = source.tensors.get(name)
        if old is not None and ".heads.classes." in name and there != here:
            reason = f"scoring.kind {there} there, {here} here"
            tensors[name], row = tensor, Row(name, "fresh", tensor.numel(), reason)
        else:
            tensors[name], row = _fit(name, tensor, old, source.categories, categories)
        rows.append(row)
    unused = [name for name in source.tensors if name not in fresh]
    rows += [Row(name, "unused", source.tensors[name].numel(), "has no place here") for name in unused]
    return Transfer(tensors, rows)


def summarise(rows: Sequence[Row]) -> list[tuple[str, What, int, int, str]]:
    """(part, what, tensors, elements, reason), with the tensors of a part that fared alike in one line."""
    lines: dict[tuple[str, What, str], list[int]] = {}
    for row in rows:
        lines.setdefault((_part(row.name), row.what, row.reason), []).append(row.elements)
    return [(part, what, len(sizes), sum(sizes), reason) for (part, what, reason), sizes in lines.items()]


def _require_same_backbone(source: Experiment, target: Experiment) -> None:
    for name in ("name", "norm"):
        old, new = getattr(source.model.backbone, name), getattr(target.model.backbone, name)
        if old != new:
            raise DetrkitError(
                f"the starting weights have model.backbone.{name} {old}, not {new}: train with "
                f"--set model.backbone.{name}={old}, or start from weights that have {new}."
            )


def _fit(
    name: str,
    fresh: Tensor,
    old: Tensor | None,
    old_categories: tuple[Category, ...],
    categories: tuple[Category, ...],
) -> tuple[Tensor, Row]:
    if old is None:
        return fresh, Row(name, "fresh", fresh.numel(), "the source has none")
    if _is_by_class(name) and old.shape[1:] == fresh.shape[1:]:
        return _class_rows(name, fresh, old, old_categories, categories)
    if old.shape == fresh.shape:
        return old.clone(), Row(name, "copied", fresh.numel())
    if name.endswith(("decoder.queries", "decoder.anchors")) and old.shape[1:] == fresh.shape[1:]:
        return _first_rows(name, fresh, old)
    shapes = f"shape {tuple(old.shape)} there, {tuple(fresh.shape)} here"
    return fresh, Row(name, "fresh", fresh.numel(), shapes)


def _is_by_class(name: str) -> bool:
    """Whether every class has a row: of the class head, or of the labels that denoising starts from."""
    return ".heads.classes." in name or ".denoising.labels." in name


def _first_rows(name: str, fresh: Tensor, old: Tensor) -> tuple[Tensor, Row]:
    count = min(len(old), len(fresh))
    taken = torch.cat([old[:count], fresh[count:]])
    reason = f"the first {count} of {len(old)} rows" + (
        f", {len(fresh) - count} fresh" if len(fresh) > count else ""
    )
    return taken, Row(name, "adapted", fresh.numel(), reason)


def _class_rows(
    name: str,
    fresh: Tensor,
    old: Tensor,
    old_categories: tuple[Category, ...],
    categories: tuple[Category, ...],
) -> tuple[Tensor, Row]:
    """Rows by category name. Rows beyond the classes ('no object') keep their place at the end."""
    label_of = {category.name: label for label, category in enumerate(old_categories) if category.used}
    pairs = {
        label: label_of[category.name]
        for label, category in enumerate(categories)
        if category.name in label_of
    }
    beyond = len(fresh) - len(categories)
    if beyond == len(old) - len(old_categories):
        pairs |= {len(categories) + row: len(old_categories) + row for row in range(beyond)}
    taken = fresh.clone()
    if pairs:
        taken[list(pairs)] = old[list(pairs.values())]
    if len(pairs) == len(fresh) == len(old):
        return taken, Row(name, "copied", fresh.numel(), "rows by category name")
    known = sum(label < len(categories) for label in pairs)
    reason = f"{known} of {len(categories)} classes by name, the rest fresh"
    return taken, Row(name, "adapted", fresh.numel(), reason)


def _part(name: str) -> str:
    """The part of a detector that a tensor belongs to, such as ``decoder.heads.classes``."""
    words = name.removeprefix("network.").split(".")
    if words[0] not in ("encoder", "decoder"):
        return words[0]
    return ".".join(words[: 3 if words[1] == "heads" else 2])
