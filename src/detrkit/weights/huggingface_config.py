"""The json files of transformers' detectors as settings and categories here, and back: what is common.

``config.json`` and ``preprocessor_config.json`` are trees of plain values here. ``source`` is the file to
name in errors. What is particular to one kind of detector stands in that kind's module.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detrkit.catalog import Category
from detrkit.data.collate import MEAN, STD
from detrkit.data.names import is_writable
from detrkit.errors import DetrkitError, shown
from detrkit.settings.data import DataSettings
from detrkit.settings.experiment import Experiment
from detrkit.settings.model import BackboneSettings, DetrSettings
from detrkit.settings.objective import FocalSettings
from detrkit.weights.coco import COCO_91

logger = logging.getLogger(__name__)

Json = dict[str, Any]
"""An object of a json file."""

DEFAULTS: Json = {
    "num_channels": 3,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "dropout": 0.1,
    "auxiliary_loss": False,
    "bbox_cost": 5,
    "giou_cost": 2,
    "bbox_loss_coefficient": 5,
    "giou_loss_coefficient": 2,
}
"""What every kind takes for what a file leaves out."""

FOCAL_DEFAULTS: Json = DEFAULTS | {
    "num_queries": 300,
    "class_cost": 2,
    "cls_loss_coefficient": 2,
    "focal_alpha": 0.25,
}
"""The same of the kinds in which every class has a sigmoid."""

_RESNETS = {
    "resnet18": ("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet34": ("basic", [3, 4, 6, 3], [64, 128, 256, 512]),
    "resnet50": ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "resnet101": ("bottleneck", [3, 4, 23, 3], [256, 512, 1024, 2048]),
}
"""``layer_type``, ``depths`` and ``hidden_sizes`` of a ``ResNetConfig``."""

_PIXELS: Json = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
}
"""What makes an image processor's pixels those of ``data.collate.normalise``."""

_GAMMA = 2.0
"""The focal loss's there, always."""

_UNUSED = "N/A"
"""The published models' name for a label that no object has."""


def has_timm_backbone(config: Json, source: Path) -> bool:
    """Whether the ResNet is timm's rather than transformers' own."""
    match config.get("backbone_config"):
        case None:
            return bool(config.get("use_timm_backbone", True))
        case {"model_type": "timm_backbone"}:
            return True
        case {"model_type": "resnet"}:
            return False
        case other:
            kind = other.get("model_type") if isinstance(other, dict) else other
            raise DetrkitError(f"{source} has a backbone of type {shown(kind)}, which is no ResNet.")


def transformer_settings(config: Json, width: object) -> Json:
    """The settings of the layers. Dropout is one number here and three there: ``dropout`` is taken."""
    return {
        "width": width,
        "heads": config["encoder_attention_heads"],
        "feedforward": config["encoder_ffn_dim"],
        "dropout": config["dropout"],
    }


def objective_settings(config: Json) -> Json:
    """The settings of matching and of the losses of boxes."""
    return {
        "matching": {
            "classification": config["class_cost"],
            "l1": config["bbox_cost"],
            "giou": config["giou_cost"],
        },
        "loss": {"l1": config["bbox_loss_coefficient"], "giou": config["giou_loss_coefficient"]},
    }


def focal_settings(config: Json) -> Json:
    """The settings of scoring, matching and losses where every class has a sigmoid."""
    settings = objective_settings(config)
    settings["loss"]["classification"] = config["cls_loss_coefficient"]
    return settings | {"scoring": {"kind": "focal", "alpha": config["focal_alpha"]}}


def require_values(config: Json, wanted: Json, source: Path) -> None:
    """Refuse a config.json that says something else than the one thing that detrkit has."""
    for name, value in wanted.items():
        if config[name] != value:
            raise DetrkitError(
                f"{source} has {name} {_shown(config[name])}, but detrkit needs {_shown(value)}: take a "
                "model that was trained so."
            )


def require_equal_layers(config: Json, source: Path) -> None:
    """Refuse a decoder whose layers are of other sizes than the encoder's."""
    for part in ("attention_heads", "ffn_dim"):
        require_values(config, {f"decoder_{part}": config[f"encoder_{part}"]}, source)


def refuse_auxiliary_loss(config: Json, source: Path) -> None:
    """Refuse a config.json of those kinds for which ``auxiliary_loss`` changes the network."""
    if config["auxiliary_loss"]:
        raise DetrkitError(
            f"{source} has auxiliary_loss true, with which transformers normalises the queries between "
            "decoder layers, and detrkit, as the paper, does not: if the weights are of a training without "
            "it, set it to false there."
        )


def backbone_settings(config: Json, source: Path) -> Json:
    """The settings of the ResNet; DetrkitError where it is none that detrkit has."""
    about = config.get("backbone_config") or config.get("backbone_kwargs") or {}
    if not isinstance(about, dict):
        raise DetrkitError(
            f"{source} describes its backbone as {shown(about)}, but a JSON object is expected."
        )
    if _last(about, "out_features") not in (None, "stage4", "layer4") or (
        _last(about, "out_indices") not in (None, 4, -1)
    ):
        raise DetrkitError(f"{source} takes features before the last stage of the ResNet.")
    if not has_timm_backbone(config, source):
        # transformers' own ResNet has no dilation, whatever the config.json says
        return {"name": _resnet(about, source), "norm": "frozen"}
    name = str(about.get("backbone") or config.get("backbone") or "resnet50")
    stride = about.get("output_stride") if about else (16 if config.get("dilation") else 32)
    known = re.fullmatch(r"(?:tv_)?(resnet\d+)(?:\..*)?", name)
    if known is None or known[1] not in _RESNETS or stride not in (None, 16, 32):
        raise DetrkitError(
            f"{source} has timm's backbone {shown(name)} with output_stride {shown(stride)}, but detrkit has "
            f"{', '.join(_RESNETS)} with 32 or 16."
        )
    return {"name": known[1], "norm": "frozen", "dilation": stride == 16}


def to_data_settings(preprocessor: Json, source: Path, overrides: Mapping[str, object]) -> Json:
    """The settings of the size that images are resized to; ``overrides`` may stand in for one unknown here.

    Raises:
        DetrkitError: where the pixels would be others here, or the size is of a kind that detrkit lacks.
    """
    for name, wanted in _PIXELS.items():
        if preprocessor.get(name, wanted) != wanted:
            given = shown(preprocessor[name])
            raise DetrkitError(f"{source} has {name} {given}, but detrkit needs {wanted}.")
    longest = preprocessor.get("max_size") or 1333
    if type(longest) is not int:
        raise DetrkitError(f"{source} has max_size {shown(longest)}, but a whole number is expected.")
    match preprocessor.get("size"):
        case None:
            return {}
        case int(shortest):
            return _sizes(shortest, longest)
        case {"shortest_edge": int(shortest), "longest_edge": int(longest_edge)}:
            return _sizes(shortest, longest_edge)
        case {"shortest_edge": int(shortest), **rest} if not rest.get("longest_edge"):
            return _sizes(shortest, longest)
        case {"max_height": int(height), "max_width": int(width)} if height == width:
            return _sizes(height, width)
        case _ if "data.eval_short_side" in overrides:
            return {}
        case other:
            raise DetrkitError(
                f"{source} has size {shown(other)}, which detrkit cannot resize to: add --set "
                "data.eval_short_side=800, or what suits the model."
            )


def to_categories(config: Json, source: Path) -> tuple[Category, ...]:
    """COCO's where the names are those of the published models; else a label is its own id."""
    names = config.get("id2label")
    if names is None:
        names = {str(label): f"LABEL_{label}" for label in range(2)}  # what transformers leaves out
    if not isinstance(names, dict) or not names:
        raise DetrkitError(f"{source} has no names of labels in id2label.")
    gap = next((label for label in range(len(names)) if str(label) not in names), None)
    if gap is not None:
        raise DetrkitError(
            f"{source} has {len(names)} labels in id2label, but none is {gap}: number them from 0."
        )
    ordered = [str(names[str(label)]) for label in range(len(names))]
    unwritable = next((name for name in ordered if not is_writable(name)), None)
    if unwritable is not None:
        raise DetrkitError(
            f"{source} has the label {shown(unwritable)} in id2label, which holds half of a surrogate pair, "
            "but text in UTF-8 is expected: write the sign itself."
        )
    if len(ordered) == len(COCO_91) and all(ordered[label] == name for label, name, used in COCO_91 if used):
        return COCO_91
    return tuple(
        Category(label, f"unused {label}", used=False) if name == _UNUSED else Category(label, name)
        for label, name in enumerate(ordered)
    )


def backbone_config(backbone: BackboneSettings) -> Json:
    """The ResNet: transformers' own, or timm's if it is dilated."""
    if backbone.dilation:
        return {
            "backbone": backbone.name,
            "backbone_config": None,
            "use_timm_backbone": True,
            "use_pretrained_backbone": False,
            "dilation": True,
        }
    return {
        "backbone": None,
        "backbone_config": _resnet_config(backbone.name) | {"out_features": ["stage4"]},
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "dilation": False,
    }


def layers_config(model: DetrSettings) -> Json:
    """The sizes of encoder and decoder, but for their width, and their dropout."""
    transformer = model.transformer
    return {
        "encoder_layers": model.encoder.layers,
        "encoder_attention_heads": transformer.heads,
        "encoder_ffn_dim": transformer.feedforward,
        "decoder_layers": model.decoder.layers,
        "decoder_attention_heads": transformer.heads,
        "decoder_ffn_dim": transformer.feedforward,
        "num_queries": model.decoder.queries,
        "dropout": transformer.dropout,
        "attention_dropout": transformer.dropout,
        "activation_dropout": transformer.dropout,
    }


def objective_config(experiment: Experiment, classification: Mapping[str, float], unheld: Json) -> Json:
    """The weights of training, which are whole numbers in transformers; a warning tells which are lost.

    ``classification`` has those of the class loss by their names there; ``unheld`` are settings that a
    config.json has no name for.
    """
    matching, loss = experiment.matching, experiment.loss
    weights = {
        "class_cost": matching.classification,
        "bbox_cost": matching.l1,
        "giou_cost": matching.giou,
        "bbox_loss_coefficient": loss.l1,
        "giou_loss_coefficient": loss.giou,
        **classification,
    }
    whole = {name: int(value) for name, value in weights.items() if value.is_integer()}
    lost = {name: value for name, value in weights.items() if name not in whole} | unheld
    if lost:
        logger.warning(
            "transformers cannot hold %s and would train with its defaults; what it predicts is the same.",
            ", ".join(f"{name} {value}" for name, value in lost.items()),
        )
    return whole


def focal_config(experiment: Experiment) -> Json:
    """The weights of training where every class has a sigmoid."""
    scoring = experiment.scoring
    assert isinstance(scoring, FocalSettings)
    unheld = {"scoring.gamma": scoring.gamma} if scoring.gamma != _GAMMA else {}
    weights = objective_config(experiment, {"cls_loss_coefficient": experiment.loss.classification}, unheld)
    return weights | {"focal_alpha": scoring.alpha}


def labels_config(categories: tuple[Category, ...]) -> Json:
    """The names of the labels; those that no object has are "N/A"."""
    names = [category.name if category.used else _UNUSED for category in categories]
    return {
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
    }


def to_preprocessor(data: DataSettings, image_processor: str) -> Json:
    """A preprocessor_config.json that resizes images as evaluation here does."""
    return {
        "image_processor_type": image_processor,
        "format": "coco_detection",
        "do_resize": True,
        "size": {"shortest_edge": data.eval_short_side, "longest_edge": data.max_size},
        "resample": 2,  # bilinear
        **_PIXELS,
        "do_pad": True,
    }


def _last(about: Json, name: str) -> object:
    values = about.get(name)
    return values[-1] if isinstance(values, list) and values else None


def _resnet(about: Json, source: Path) -> str:
    found = _resnet_config("resnet50") | about
    for name in _RESNETS:
        if all(found[key] == value for key, value in _resnet_config(name).items()):
            return name
    raise DetrkitError(
        f"{source} has a ResNet with layer_type {shown(found['layer_type'])}, "
        f"depths {shown(found['depths'])} and hidden_sizes {shown(found['hidden_sizes'])}, but detrkit has "
        f"{', '.join(_RESNETS)} in their usual form."
    )


def _resnet_config(name: str) -> Json:
    """A ResNet as ``ResNetConfig``, whose defaults are those of ResNet-50."""
    layer_type, depths, hidden_sizes = _RESNETS[name]
    return {
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": 64,
        "layer_type": layer_type,
        "depths": depths,
        "hidden_sizes": hidden_sizes,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def _sizes(shortest: int, longest: int) -> Json:
    shortest = min(shortest, longest)  # of a shortest_edge above it, nothing would be left
    smaller = [side for side in DataSettings().short_sides if side <= shortest]
    return {"short_sides": smaller or [shortest], "eval_short_side": shortest, "max_size": longest}


def _shown(value: object) -> str:
    """A value as json has it, shortened where it is long."""
    return json.dumps(value)[:100]
