"""Checkpoints of the original release (github.com/facebookresearch/detr), read and written.

Such a file is a pickle of ``{"model": state dict, "args": Namespace, ..}``.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.errors import DetrkitError, shown
from detrkit.models.pickled import require_tensors, unpickle
from detrkit.settings.experiment import Experiment, parse
from detrkit.weights.coco import COCO_91, require_class_count
from detrkit.weights.rename import OF_DETR, Place, Rules, from_stored, rename, require_settings, to_stored
from detrkit.weights.store import DAMAGED, Stored, read_categories, replace

RELEASES = {
    "e632da11": ("detr-r50", False),
    "f0fb7ef5": ("detr-r50-dc5", True),
    "2c7b67e5": ("detr-r101", False),
    "a2e86def": ("detr-r101-dc5", True),
}
"""The published files by the start of their SHA-256, which their names end with: name, and whether DC5."""

_RULES: Rules = (
    (r"backbone\.stem\.(.*)", r"backbone.0.body.\1"),
    (r"backbone\.(layer\d.*)", r"backbone.0.body.\1"),
    (r"encoder\.project\.0\.(.*)", r"input_proj.\1"),
    (r"encoder\.position\.rows", r"backbone.1.row_embed.weight"),
    (r"encoder\.position\.columns", r"backbone.1.col_embed.weight"),
    (r"decoder\.queries", r"query_embed.weight"),
    (r"decoder\.heads\.classes\.(.*)", r"class_embed.\1"),
    (r"decoder\.heads\.boxes\.0\.(.*)", r"bbox_embed.layers.0.\1"),
    (r"decoder\.heads\.boxes\.2\.(.*)", r"bbox_embed.layers.1.\1"),
    (r"decoder\.heads\.boxes\.4\.(.*)", r"bbox_embed.layers.2.\1"),
    (r"((?:en|de)coder)\.norm\.(.*)", r"transformer.\1.norm.\2"),
    (r"((?:en|de)coder\.layers\.\d+)\.feedforward\.0\.(.*)", r"transformer.\1.linear1.\2"),
    (r"((?:en|de)coder\.layers\.\d+)\.feedforward\.3\.(.*)", r"transformer.\1.linear2.\2"),
    (r"(encoder\.layers\.\d+)\.after_attention\.norm\.(.*)", r"transformer.\1.norm1.\2"),
    (r"(encoder\.layers\.\d+)\.after_feedforward\.norm\.(.*)", r"transformer.\1.norm2.\2"),
    (r"(decoder\.layers\.\d+)\.after_self_attention\.norm\.(.*)", r"transformer.\1.norm1.\2"),
    (r"(decoder\.layers\.\d+)\.after_cross_attention\.norm\.(.*)", r"transformer.\1.norm2.\2"),
    (r"(decoder\.layers\.\d+)\.after_feedforward\.norm\.(.*)", r"transformer.\1.norm3.\2"),
    (r"(.*)\.(?:self_)?attention\.output\.(.*)", r"transformer.\1.self_attn.out_proj.\2"),
    (r"(.*)\.cross_attention\.output\.(.*)", r"transformer.\1.multihead_attn.out_proj.\2"),
    (r"(.*)\.(?:self_)?attention\.(?:query|key|value)\.(.*)", r"transformer.\1.self_attn.in_proj_\2"),
    (r"(.*)\.cross_attention\.(?:query|key|value)\.(.*)", r"transformer.\1.multihead_attn.in_proj_\2"),
)
_STACKED = ("query", "key", "value")


def layout(name: str) -> Place:
    """Where the tensor ``name`` of a DETR network stands in the original's state dict."""
    part = next((part for part in _STACKED if f"attention.{part}." in name), None)
    place = rename(name, _RULES)
    return Place(place) if part is None else Place(place, _STACKED.index(part), len(_STACKED))


def read(path: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What an original checkpoint holds; see ``from_pickle``."""
    return from_pickle(unpickle(path), path, overrides)


def from_pickle(content: object, path: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What the ``content`` of an original checkpoint holds, under the names of a detector's state here.

    The architecture is read from names and shapes. These do not show DC5, which is taken from the
    file's arguments, else from its hash if it is one of the four releases, else from the override
    ``model.backbone.dilation``. The number of heads is the arguments', else 8 as in all releases.

    Raises:
        DetrkitError: where the file is not such a checkpoint, or nothing says whether it is DC5.
    """
    found = _checked(content, path)
    model, arguments = require_tensors(found["model"], path), vars(found.get("args", argparse.Namespace()))
    if "detrkit" in found:
        experiment, categories = _written_here(found["detrkit"], path, overrides)
        return to_stored(model, layout, experiment, categories, str(path))
    tree = _architecture(model, arguments, path)
    known = arguments.get("dilation", _dilation_of_release(path))
    if known is None and not (overrides and "model.backbone.dilation" in overrides):
        raise DetrkitError(
            f"{path} does not say whether its backbone is dilated (DC5), which no shape shows: "
            "add --set model.backbone.dilation=true or false."
        )
    tree["model"]["backbone"]["dilation"] = bool(known)
    experiment = parse(tree, str(path), overrides)
    categories = _categories(_size(model, "class_embed.weight", 0, path) - 1, path)
    return to_stored(model, layout, experiment, categories, str(path))


def write(path: Path, stored: Stored) -> None:
    """Write a DETR as a file that the original code loads.

    Beside ``model`` it holds ``detrkit``, a text with the settings and categories, for the way back.
    """
    require_settings(stored.experiment, path, "the original", OF_DETR)
    about = {"experiment": stored.experiment.model_dump(mode="json"), "categories": stored.categories}
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save({"model": from_stored(stored, layout), "detrkit": json.dumps(about)}, temporary)
    replace(temporary, path)


def _checked(found: Any, path: Path) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise DetrkitError(
            f"{path} is not a checkpoint of the original release: it has no state dict 'model'."
        )
    if not isinstance(found.get("args", argparse.Namespace()), argparse.Namespace):
        raise DetrkitError(
            f"{path} is not a checkpoint of the original release: its 'args' are no Namespace."
        )
    return found


def _written_here(
    text: object, path: Path, overrides: Mapping[str, object] | None
) -> tuple[Experiment, tuple[Category, ...]]:
    try:
        if not isinstance(text, str):
            raise TypeError("they are no text")
        about = json.loads(text)
        settings, categories = dict(about["experiment"]), read_categories(about["categories"])
    except DAMAGED as error:
        raise DetrkitError(
            f"{path} has damaged settings: {type(error).__name__} {shown(str(error))}."
        ) from None
    return parse(settings, str(path), overrides), categories


def _architecture(model: Mapping[str, Tensor], arguments: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings that the names and shapes of an original state dict show."""
    return {
        "model": {
            "backbone": {"name": _resnet(model, path), "norm": "frozen"},
            "transformer": {
                "width": _size(model, "query_embed.weight", 1, path),
                "heads": arguments.get("nheads", 8),
                "feedforward": _size(model, "transformer.encoder.layers.0.linear1.weight", 0, path),
                "dropout": arguments.get("dropout", 0.1),
                "pre_norm": "transformer.encoder.norm.weight" in model,
            },
            "encoder": {
                "layers": _count(model, r"transformer\.encoder\.layers\.(\d+)\."),
                "position": "learned" if "backbone.1.row_embed.weight" in model else "sine",
            },
            "decoder": {
                "layers": _count(model, r"transformer\.decoder\.layers\.(\d+)\."),
                "queries": _size(model, "query_embed.weight", 0, path),
            },
        }
    }


def _size(model: Mapping[str, Tensor], name: str, axis: int, path: Path) -> int:
    if name not in model or model[name].ndim <= axis:
        raise DetrkitError(f"{path} is not a checkpoint of DETR: it lacks the tensor '{name}'.")
    return model[name].shape[axis]


def _count(model: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in model if (found := re.match(pattern, name))})


def _resnet(model: Mapping[str, Tensor], path: Path) -> str:
    blocks = _count(model, r"backbone\.0\.body\.layer3\.(\d+)\.")
    bottleneck = "backbone.0.body.layer3.0.conv3.weight" in model
    names = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}
    if (blocks, bottleneck) not in names:
        raise DetrkitError(f"{path} has no ResNet that detrkit knows: its layer3 has {blocks} blocks.")
    return names[blocks, bottleneck]


def _dilation_of_release(path: Path) -> bool | None:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name_and_dilation = RELEASES.get(digest[:8])
    return None if name_and_dilation is None else name_and_dilation[1]


def _categories(num_classes: int, path: Path) -> tuple[Category, ...]:
    """COCO's where the number is that of the releases; else the classes have no names to tell."""
    require_class_count(num_classes, str(path))
    if num_classes == len(COCO_91):
        return COCO_91
    return tuple(Category(label, f"class {label}") for label in range(num_classes))
