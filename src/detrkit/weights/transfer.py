"""Starting weights from another detector: other classes and, of DETRs, other architectures.

Every tensor of both sides is accounted for, so that nobody has to guess what was loaded.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.models.classical import first_label
from detrkit.settings.experiment import Experiment
from detrkit.settings.model import DetrSettings
from detrkit.weights.architecture import require_same_blocks
from detrkit.weights.classical_heads import rows_of_label, with_rows
from detrkit.weights.growth import Filled, Fresh, Origin, Taken, origin
from detrkit.weights.store import Stored

Plan = Literal["grow", "imagenet"]
"""Whether the backbone is the source's, grown where it is to be deeper, or the new detector's own."""

What = Literal["carried", "adapted", "grown", "fresh", "dropped"]


class Row(NamedTuple):
    """What became of one tensor: of the new detector or, if ``dropped``, of the old one.

    ``carried`` has the source's numbers and ``adapted`` some of them. ``grown`` belongs to a part that the
    source lacks, and starts as ``reason`` says. ``fresh`` has the new detector's own numbers. ``source`` is
    the old tensor that was taken.
    """

    name: str
    what: What
    elements: int
    reason: str = ""
    source: str | None = None


class Transfer(NamedTuple):
    """A new detector's state, and where every tensor of it is from."""

    tensors: dict[str, Tensor]
    rows: list[Row]


def transfer(
    source: Stored,
    fresh: dict[str, Tensor],
    experiment: Experiment,
    categories: tuple[Category, ...],
    plan: Plan = "grow",
) -> Transfer:
    """The state ``fresh`` of a new detector with what the ``source`` has for it put in.

    A tensor of equal shape is carried, and new blocks and layers start as ``growth`` says. Of the class head
    and of denoising's labels, rows are taken by category name, and 'no object' as itself; classes that the
    source lacks keep their fresh rows. The whole class head stays fresh if ``scoring.kind`` differs, since a
    logit then means something else. Of the object queries, of the anchors and of the hidden units of
    feed-forward networks, the first ones are taken; further hidden units add nothing yet. All else stays
    fresh, which after a change of the width is the whole transformer: its channels, heads and sines then mean
    something else.

    Raises:
        DetrkitError: where the backbones' weights mean different things, unless the plan is ``imagenet``.
    """
    old, new = source.experiment.model, experiment.model
    if plan == "grow" and isinstance(old, DetrSettings) and isinstance(new, DetrSettings):
        require_same_blocks(old, new)
    tensors, rows = {}, []
    for name, tensor in fresh.items():
        if plan == "imagenet" and name.startswith("network.backbone."):
            reason = f"of model.backbone.weights {experiment.model.backbone.weights}"
            tensors[name], row = tensor, Row(name, "fresh", tensor.numel(), reason)
        else:
            tensors[name], row = _start(name, tensor, source, experiment, categories)
        rows.append(row)
    return Transfer(tensors, rows + _dropped(source, rows))


def summarise(rows: Sequence[Row]) -> list[tuple[str, What, int, int, str]]:
    """(part, what, tensors, elements, reason), with the tensors of a part that fared alike in one line."""
    lines: dict[tuple[str, What, str], list[int]] = {}
    for row in rows:
        lines.setdefault((_part(row.name), row.what, row.reason), []).append(row.elements)
    return [(part, what, len(sizes), sum(sizes), reason) for (part, what, reason), sizes in lines.items()]


class _Fitted(NamedTuple):
    tensor: Tensor
    what: What
    reason: str = ""


def _start(
    name: str, fresh: Tensor, source: Stored, experiment: Experiment, categories: tuple[Category, ...]
) -> tuple[Tensor, Row]:
    match _origin(name, source.experiment, experiment):
        case Filled(value, grown):
            return torch.full_like(fresh, value), Row(name, "grown", fresh.numel(), grown)
        case Fresh(reason):
            return fresh, Row(name, "fresh", fresh.numel(), reason)
        case Taken(there, grown):
            fitted = _take(name, there, fresh, source, experiment, categories)
            if fitted.what == "fresh":
                return fitted.tensor, Row(name, "fresh", fresh.numel(), fitted.reason)
            what, reason = ("grown", grown) if grown else fitted[1:]
            return fitted.tensor, Row(name, what, fresh.numel(), reason, there)
        case other:
            assert_never(other)


def _origin(name: str, source: Experiment, target: Experiment) -> Origin:
    """Where a tensor comes from: in a classical detector, which does not grow, from that of the same name."""
    if isinstance(source.model, DetrSettings) and isinstance(target.model, DetrSettings):
        return origin(name, source.model, target.model)
    return Taken(name)


def _take(
    name: str,
    there: str,
    fresh: Tensor,
    source: Stored,
    experiment: Experiment,
    categories: tuple[Category, ...],
) -> _Fitted:
    old, kinds = source.tensors.get(there), (source.experiment.scoring.kind, experiment.scoring.kind)
    if old is None:
        return _Fitted(fresh, "fresh", "the source has none")
    if ".heads.classes." in name and kinds[0] != kinds[1]:
        return _Fitted(fresh, "fresh", f"scoring.kind {kinds[0]} there, {kinds[1]} here")
    model, rows = experiment.model, rows_of_label(name)
    if rows and not isinstance(model, DetrSettings) and source.categories != categories:
        return _classical_rows(fresh, old, source.categories, categories, first_label(model), rows)
    return _fit(name, fresh, old, source.categories, categories)


def _dropped(source: Stored, rows: Sequence[Row]) -> list[Row]:
    """The tensors of the source that nothing was taken from."""
    taken, names = {row.source for row in rows}, {row.name for row in rows}
    return [
        Row(name, "dropped", tensor.numel(), "another stands here" if name in names else "has no place here")
        for name, tensor in source.tensors.items()
        if name not in taken
    ]


def _fit(
    name: str,
    fresh: Tensor,
    old: Tensor,
    old_categories: tuple[Category, ...],
    categories: tuple[Category, ...],
) -> _Fitted:
    if _is_by_class(name) and old.shape[1:] == fresh.shape[1:] and old_categories != categories:
        return _class_rows(fresh, old, old_categories, categories)
    if old.shape == fresh.shape:
        return _Fitted(old.clone(), "carried")
    if name.endswith(("decoder.queries", "decoder.anchors")) and old.shape[1:] == fresh.shape[1:]:
        return _first_rows(fresh, old)
    if name.endswith(("feedforward.0.weight", "feedforward.0.bias")) and old.shape[1:] == fresh.shape[1:]:
        return _first_rows(fresh, old)
    if name.endswith("feedforward.3.weight") and len(old) == len(fresh):
        return _first_columns(fresh, old)
    return _Fitted(fresh, "fresh", f"shape {tuple(old.shape)} there, {tuple(fresh.shape)} here")


def _is_by_class(name: str) -> bool:
    """Whether every class has a row: of the class head, or of the labels that denoising starts from."""
    return ".heads.classes." in name or ".denoising.labels." in name


def _first_rows(fresh: Tensor, old: Tensor) -> _Fitted:
    count = min(len(old), len(fresh))
    reason = f"the first {count} of {len(old)} rows" + (
        f", {len(fresh) - count} fresh" if len(fresh) > count else ""
    )
    return _Fitted(torch.cat([old[:count], fresh[count:]]), "adapted", reason)


def _first_columns(fresh: Tensor, old: Tensor) -> _Fitted:
    """What the hidden units add up to: further units add nothing yet, so that the sum stays."""
    count = min(old.shape[1], fresh.shape[1])
    reason = f"the first {count} of {old.shape[1]} columns" + (
        f", {fresh.shape[1] - count} zero" if fresh.shape[1] > count else ""
    )
    return _Fitted(torch.cat([old[:, :count], torch.zeros_like(fresh[:, count:])], dim=1), "adapted", reason)


def _class_rows(
    fresh: Tensor, old: Tensor, old_categories: tuple[Category, ...], categories: tuple[Category, ...]
) -> _Fitted:
    """Rows by category name. Rows beyond the classes ('no object') keep their place at the end."""
    pairs = _pairs(old_categories, categories)
    beyond = len(fresh) - len(categories)
    if beyond == len(old) - len(old_categories):
        pairs |= {len(categories) + row: len(old_categories) + row for row in range(beyond)}
    taken = fresh.clone()
    if pairs:
        taken[list(pairs)] = old[list(pairs.values())]
    if len(pairs) == len(fresh) == len(old):
        return _Fitted(taken, "carried", "rows by category name")
    known = sum(label < len(categories) for label in pairs)
    return _Fitted(taken, "adapted", f"{known} of {len(categories)} classes by name, the rest fresh")


def _classical_rows(
    fresh: Tensor,
    old: Tensor,
    old_categories: tuple[Category, ...],
    categories: tuple[Category, ...],
    first: int,
    rows: int,
) -> _Fitted:
    """Rows by category name of a classical head, whose ``first`` label is that of the first category."""
    known = _pairs(old_categories, categories)
    pairs = {label: label for label in range(first)} | {
        first + here: first + there for here, there in known.items()
    }
    taken = with_rows(fresh, old, (first + len(categories), first + len(old_categories)), pairs, rows)
    if taken is None:
        return _Fitted(fresh, "fresh", f"shape {tuple(old.shape)} there, {tuple(fresh.shape)} here")
    if len(known) == len(categories) == len(old_categories):
        return _Fitted(taken, "carried", "rows by category name")
    return _Fitted(taken, "adapted", f"{len(known)} of {len(categories)} classes by name, the rest fresh")


def _pairs(old_categories: tuple[Category, ...], categories: tuple[Category, ...]) -> dict[int, int]:
    """For each label that both know by name: the label here and the label there."""
    label_of = {category.name: label for label, category in enumerate(old_categories) if category.used}
    return {
        label: label_of[category.name]
        for label, category in enumerate(categories)
        if category.name in label_of
    }


def _part(name: str) -> str:
    """The part of a detector that a tensor belongs to, such as ``decoder.heads.classes``."""
    words = name.removeprefix("network.").split(".")
    if rows_of_label(name):
        return ".".join(words[:-1])
    if words[0] not in ("encoder", "decoder"):
        return words[0]
    return ".".join(words[: 3 if words[1] == "heads" else 2])
