"""Where each tensor of a deeper network comes from, so that it starts as the function it grew from.

A new part is a residual branch that ends in zero, so it hands on what it gets. Only its end is zero: the
end learns in the first step, and the rest from the second on. What is before the end is taken from trained
parts of the same kind, since frozen statistics fit the filters that they were taken with, and random
filters without a normalisation have another scale. Compare Chen et al. 2016, "Net2Net", and Wu et al.
2024, "LLaMA Pro".

*A block of a ResNet* is ``relu(x + branch(x))``. New ones come after the existing ones of their stage,
where x has left a ReLU and is never negative: the identity is exact. Where normalisation is frozen, the
last convolution is zero and the constants after it are neutral. Where it is trained, the last one's scale
and shift are zero. The rest is taken from the stage's blocks in turn, but for the first, which changes the
size: equal neighbours would get equal gradients.

*A layer of encoder or decoder* has a normalisation before each branch (``pre_norm``), which leaves the
identity exact, or after each sum. Then the last old normalisation becomes the new last layer's, and those
between are neutral: what is normalised stays as it is if normalised again, but for about 1e-5 of itself.
So the network's answer stays. Answers of the decoder layers between, which training alone sees, change a
little.

A layer of an anchor decoder moves the boxes whatever its branches do, so it cannot be an identity. A new
one is a copy of the last: one more round of the same.
"""

import re
from typing import NamedTuple

from detrkit.settings.model import DetrSettings

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
"""How many blocks each stage has (He et al. 2016, table 1)."""

BASIC = ("resnet18", "resnet34")
"""Those whose blocks have two convolutions; the others' have three."""

_TRANSFORMER = ("network.encoder.", "network.decoder.")
_BLOCK = re.compile(r"network\.backbone\.layer(\d)\.(\d+)\.(.+)")
_LAYER = re.compile(r"network\.(encoder|decoder)\.layers\.(\d+)\.(.+)")
_PROJECTION = re.compile(r"network\.encoder\.project\.(\d+)\.(.+)")
_ENDS = re.compile(r"((self_|cross_)?attention\.output|feedforward\.3)\.(weight|bias)")
_NORM = re.compile(r"after_\w+\.norm\.(weight|bias)")
_LAST_NORM = re.compile(r"after_feedforward\.norm\.(weight|bias)")

_END = "ends a new branch, which adds nothing yet"
_INSIDE = "inside of a new branch, from a trained one"


class Taken(NamedTuple):
    """The source's tensor of this name, if it has it. ``grown`` says why it serves for a new part."""

    name: str
    grown: str = ""


class Filled(NamedTuple):
    """One value everywhere, and why."""

    value: float
    grown: str


class Fresh(NamedTuple):
    """The target's own random numbers, and why."""

    reason: str


Origin = Taken | Filled | Fresh


def origin(name: str, source: DetrSettings, target: DetrSettings) -> Origin:
    """Where a tensor of the target's network comes from."""
    widths = source.transformer.width, target.transformer.width
    if widths[0] != widths[1] and name.startswith(_TRANSFORMER) and not name.endswith("anchors"):
        return Fresh(f"model.transformer.width {widths[0]} there, {widths[1]} here")
    if block := _BLOCK.fullmatch(name):
        return _of_block(block, source, target)
    if layer := _LAYER.fullmatch(name):
        return _of_layer(layer, source, target)
    if projection := _PROJECTION.fullmatch(name):
        return _of_projection(projection, source, target)
    return Taken(name)


def _of_block(block: re.Match[str], source: DetrSettings, target: DetrSettings) -> Origin:
    stage, number, tail = int(block[1]), int(block[2]), block[3]
    existing = BLOCKS[source.backbone.name][stage - 1]
    if number < existing:
        return Taken(block[0])
    last = 2 if source.backbone.name in BASIC else 3
    part, _, kind = tail.rpartition(".")
    if target.backbone.norm != "frozen" and part == f"bn{last}" and kind in ("weight", "bias"):
        return Filled(0.0, _END)
    if target.backbone.norm == "frozen" and part == f"conv{last}":
        return Filled(0.0, _END)
    if target.backbone.norm == "frozen" and part == f"bn{last}":
        return Filled(1.0 if kind in ("weight", "running_var") else 0.0, _END)
    template = 1 + (number - existing) % (existing - 1)
    return Taken(f"network.backbone.layer{stage}.{template}.{tail}", _INSIDE)


def _of_layer(layer: re.Match[str], source: DetrSettings, target: DetrSettings) -> Origin:
    name, part, number, tail = layer[0], layer[1], int(layer[2]), layer[3]
    existing, wanted = (getattr(model, part).layers for model in (source, target))
    other_decoder = part == "decoder" and source.decoder.kind != target.decoder.kind
    if wanted <= existing or existing == 0 or other_decoder:
        return Taken(name)
    before = f"network.{part}.layers.{existing - 1}.{tail}"
    if part == "decoder" and target.decoder.kind == "anchor":
        return Taken(name) if number < existing else Taken(before, "a copy of the last layer")
    if not target.transformer.pre_norm and number >= existing - 1 and _NORM.fullmatch(tail):
        return _of_norm(before, tail, new=number >= existing, last=number == wanted - 1)
    if number < existing:
        return Taken(name)
    return Filled(0.0, _END) if _ENDS.fullmatch(tail) else Taken(before, _INSIDE)


def _of_norm(before: str, tail: str, new: bool, last: bool) -> Origin:
    """Of the old last layer and the new ones: the old last scale and shift come last, and once."""
    ends_layer = _LAST_NORM.fullmatch(tail) is not None
    if last and ends_layer:
        return Taken(before, "ends the last layer, as it did before")
    if not new and not ends_layer:
        return Taken(before)
    return Filled(1.0 if tail.endswith("weight") else 0.0, "neutral: the last layer scales and shifts")


def _of_projection(projection: re.Match[str], source: DetrSettings, target: DetrSettings) -> Origin:
    """A level's projection stands at the level's place among all."""
    level, levels = target.backbone.levels[int(projection[1])], source.backbone.levels
    if level not in levels:
        return Fresh(f"the source's encoder does not see {level}")
    return Taken(f"network.encoder.project.{levels.index(level)}.{projection[2]}")
