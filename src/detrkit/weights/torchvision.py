"""Weights of torchvision's own detectors: files of their state dicts, and what torchvision publishes by name.

A file is what torchvision publishes, what ``torch.save(model.state_dict(), path)`` writes, or a checkpoint of
its training script. What the detector is, names and shapes tell. Its 91 labels are COCO's ids, as in DETR's
releases, 0 being the background or unused.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.models import WeightsEnum

from detrkit.catalog import Category
from detrkit.errors import DetrkitError
from detrkit.models.classical import build_classical, first_label
from detrkit.models.pickled import require_tensors
from detrkit.models.pretrained import fetch
from detrkit.settings.experiment import Experiment, parse
from detrkit.settings.model import DetrSettings
from detrkit.weights.coco import COCO_91, require_class_count
from detrkit.weights.growth import BASIC, BLOCKS
from detrkit.weights.store import Stored

logger = logging.getLogger(__name__)

WITHOUT_EPSILON = {"258fb6c6", "eeacb38b", "bf2d0c1e"}
"""Published files, by the start of their SHA-256, whose frozen normalisation has an epsilon of 0: the first
versions of Faster R-CNN, RetinaNet and Mask R-CNN. torchvision sets it when it loads them."""

_EPSILON = 1e-5

_Weights = Mapping[str, Tensor]


def is_named(path: Path) -> bool:
    """Whether this is no file, but the name of published weights, such as
    ``FasterRCNN_ResNet50_FPN_Weights.COCO_V1``.
    """
    return not path.exists() and re.fullmatch(r"\w+_Weights\.\w+", str(path)) is not None


def read_named(name: str, overrides: Mapping[str, object] | None = None) -> Stored:
    """What torchvision publishes under this name, downloaded by torchvision unless it has been already.

    Raises:
        DetrkitError: where there are no such weights of a detector, or they cannot be had.
    """
    try:
        weights: WeightsEnum = torchvision.models.get_weight(name)
    except (ValueError, KeyError):
        raise DetrkitError(
            f"torchvision has no weights '{name}': those of detectors end with COCO_V1, such as "
            "FasterRCNN_ResNet50_FPN_Weights.COCO_V1."
        ) from None
    tensors, file_name = fetch(weights, name, "name a file of weights that is here")
    if not is_state(tensors):
        raise DetrkitError(f"{name} are not the weights of a detector that detrkit has.")
    return _stored(tensors, name, overrides, Path(file_name).stem[-8:] in WITHOUT_EPSILON)


def is_state(found: object) -> bool:
    """Whether this is the state dict of one of torchvision's detectors, or a checkpoint that has one."""
    state = found.get("model", found) if isinstance(found, dict) else None
    parts = ("backbone.body.", "backbone.features.")
    return isinstance(state, dict) and any(isinstance(one, str) and one.startswith(parts) for one in state)


def from_pickle(content: Any, path: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What the ``content`` of a file, which ``is_state``, holds, under the names of a detector's state here.

    Frozen and trained normalisation cannot be told apart by their tensors. Version 2 is taken to have trained
    one, as published, and all else frozen one, unless ``model.backbone.norm`` is among the overrides.

    Raises:
        DetrkitError: where the detector is none that detrkit has, or tensors are missing or too many.
    """
    state = require_tensors(content.get("model", content), path)
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return _stored(state, str(path), overrides, digest[:8] in WITHOUT_EPSILON)


def _stored(
    theirs: _Weights, source: str, overrides: Mapping[str, object] | None, without_epsilon: bool
) -> Stored:
    model = _settings(theirs, source)
    side = {"ssd300": 300, "ssdlite320": 320}.get(model["kind"])
    data = {"short_sides": [side or 800], "max_size": side or 1333}
    experiment = parse({"model": model, "data": data}, source, overrides)
    if isinstance(experiment.model, DetrSettings):
        raise DetrkitError(f"{source} holds a {model['kind']}: leave out --set model.kind=detr.")
    first = first_label(experiment.model)
    categories = _categories(_num_labels(theirs, model["kind"], source), first)
    if without_epsilon:
        theirs = _with_epsilon(theirs)
    return Stored(experiment, categories, _renamed(theirs, experiment, len(categories), source))


def _settings(theirs: _Weights, source: str) -> dict[str, Any]:
    """The settings that names and shapes show."""
    if "backbone.scale_weight" in theirs:
        return {"kind": "ssd300"}
    if "backbone.features.0.0.0.weight" in theirs:
        return {"kind": "ssdlite320"}
    backbone = _resnet(theirs, source)
    if "rpn.head.cls_logits.weight" in theirs:
        kind = "mask_rcnn" if any(name.startswith("roi_heads.mask") for name in theirs) else "faster_rcnn"
        version = 2 if "backbone.fpn.inner_blocks.0.1.weight" in theirs else 1
    elif "head.regression_head.bbox_ctrness.weight" in theirs:
        return {"kind": "fcos", "backbone": backbone}
    else:
        kind = "retinanet"
        version = 2 if "head.classification_head.conv.0.1.weight" in theirs else 1
    if version == 2 and backbone["norm"] == "frozen":
        backbone["norm"] = "batch"
    return {"kind": kind, "version": version, "backbone": backbone}


def _resnet(theirs: _Weights, source: str) -> dict[str, Any]:
    blocks = {tuple(name.split(".")[2:4]) for name in theirs if name.startswith("backbone.body.layer")}
    counts = tuple(sum(stage == f"layer{number}" for stage, _ in blocks) for number in range(1, 5))
    basic = "backbone.body.layer1.0.conv3.weight" not in theirs
    for name, known in BLOCKS.items():
        if known == counts and (name in BASIC) == basic:
            break
    else:
        raise DetrkitError(f"{source} has no ResNet that detrkit knows: its stages have {counts} blocks.")
    by_groups = "backbone.body.bn1.running_mean" not in theirs
    return (
        {"name": name, "norm": "group", "weights": "none"} if by_groups else {"name": name, "norm": "frozen"}
    )


def _num_labels(theirs: _Weights, kind: str, source: str) -> int:
    """How many labels the network tells apart, the background included where it has one."""
    match kind:
        case "faster_rcnn" | "mask_rcnn":
            name, anchors = "roi_heads.box_predictor.cls_score.weight", 1
        case "retinanet":
            name, anchors = "head.classification_head.cls_logits.weight", 9
        case "fcos":
            name, anchors = "head.classification_head.cls_logits.weight", 1
        case "ssd300":
            name, anchors = "head.classification_head.module_list.0.weight", 4
        case _:
            name, anchors = "head.classification_head.module_list.0.1.weight", 6
    if name not in theirs or not theirs[name].ndim:
        raise DetrkitError(f"{source} lacks the tensor '{name}' that a {kind} has.")
    num_labels = len(theirs[name]) // anchors
    require_class_count(num_labels, source)
    return num_labels


def _categories(num_labels: int, first: int) -> tuple[Category, ...]:
    """COCO's where the number is that of the releases; else the classes have no names to tell."""
    if num_labels == len(COCO_91):
        return COCO_91[first:]
    return tuple(Category(label, f"class {label}") for label in range(first, num_labels))


def _with_epsilon(theirs: _Weights) -> dict[str, Tensor]:
    """The same function with our epsilon, which is added to the variance before it divides."""
    changed = dict(theirs)
    for name, variance in theirs.items():
        if name.endswith(".running_var"):
            weight = name.replace("running_var", "weight")
            changed[weight] = theirs[weight] * ((variance + _EPSILON) / variance).sqrt()
    return changed


def _renamed(theirs: _Weights, experiment: Experiment, num_classes: int, source: str) -> dict[str, Tensor]:
    """The detector's state, after torchvision itself has brought old names up to date."""
    model = experiment.model
    assert not isinstance(model, DetrSettings)
    masks = [name for name in theirs if name.startswith("roi_heads.mask")]
    if masks:
        logger.warning("%s: the branch of masks is left out, %d tensors.", source, len(masks))
    with torch.device("meta"):
        network = build_classical(model, num_classes)
    counts = "num_batches_tracked"
    wanted = network.state_dict()
    given = {
        name: tensor.clone()
        for name, tensor in theirs.items()
        if name not in masks and (name in wanted or not name.endswith(counts))
    }
    try:
        missing, extra = network.load_state_dict(given, strict=False, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DetrkitError(f"{source} does not fit a {model.kind}: {reason}") from None
    missing = [name for name in missing if not name.endswith(counts)]
    if missing or extra:
        raise DetrkitError(
            f"{source} is not a {model.kind} as detrkit has it: {len(missing)} tensors are missing and "
            f"{len(extra)} unknown, such as '{[*missing, *extra][0]}'."
        )
    return {
        f"network.{name}": torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor
        for name, tensor in network.state_dict().items()
    }
