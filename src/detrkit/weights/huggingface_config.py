"""The json files of a transformers DETR as settings and categories here, and back.

``config.json`` is a ``DetrConfig`` and ``preprocessor_config.json`` a ``DetrImageProcessor``, both as trees
of plain values. ``source`` is the file to name in errors.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detrkit.catalog import Category
from detrkit.data.collate import MEAN, STD
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.settings.experiment import Experiment
from detrkit.settings.model import BackboneSettings
from detrkit.settings.objective import SoftmaxSettings
from detrkit.weights.coco import COCO_91
from detrkit.weights.rename import require_detr_alone

logger = logging.getLogger(__name__)

Json = dict[str, Any]
"""An object of a json file."""

_DEFAULTS: Json = {
    "num_channels": 3,
    "num_queries": 100,
    "d_model": 256,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "dropout": 0.1,
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "auxiliary_loss": False,
    "eos_coefficient": 0.1,
    "class_cost": 1,
    "bbox_cost": 5,
    "giou_cost": 2,
    "bbox_loss_coefficient": 5,
    "giou_loss_coefficient": 2,
}
"""``DetrConfig``'s, for what a file leaves out."""

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

_UNUSED = "N/A"
"""The published models' name for a label that no object has."""


def require_detr(config: Json, source: Path) -> None:
    """Refuse a config.json of anything but a ``DetrForObjectDetection``."""
    if config.get("model_type") != "detr":
        raise DetrkitError(
            f"{source} is of a model of type '{config.get('model_type')}', but of transformers' models "
            "detrkit reads 'detr' only."
        )
    kinds = config.get("architectures") or ["DetrForObjectDetection"]
    if kinds != ["DetrForObjectDetection"]:
        raise DetrkitError(f"{source} is of a {kinds[0]}, but detrkit reads DetrForObjectDetection only.")


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
            raise DetrkitError(f"{source} has a backbone of type '{kind}', which is no ResNet.")


def to_settings(config: Json, source: Path) -> Json:
    """The settings that a config.json states.

    Dropout is one number here and three there, of which ``dropout`` is taken.

    Raises:
        DetrkitError: where the same tensors would be another network here.
    """
    config = _DEFAULTS | config
    _require_known(config, source)
    return {
        "model": {
            "backbone": _backbone_settings(config, source),
            "transformer": {
                "width": config["d_model"],
                "heads": config["encoder_attention_heads"],
                "feedforward": config["encoder_ffn_dim"],
                "dropout": config["dropout"],
            },
            "encoder": {
                "layers": config["encoder_layers"],
                "position": config["position_embedding_type"],
            },
            "decoder": {"layers": config["decoder_layers"], "queries": config["num_queries"]},
        },
        "scoring": {"no_object": config["eos_coefficient"]},
        "matching": {
            "classification": config["class_cost"],
            "l1": config["bbox_cost"],
            "giou": config["giou_cost"],
        },
        "loss": {"l1": config["bbox_loss_coefficient"], "giou": config["giou_loss_coefficient"]},
    }


def to_data_settings(preprocessor: Json, source: Path, overrides: Mapping[str, object]) -> Json:
    """The settings of the size that images are resized to; ``overrides`` may stand in for one unknown here.

    Raises:
        DetrkitError: where the pixels would be others here, or the size is of a kind that detrkit lacks.
    """
    for name, wanted in _PIXELS.items():
        if preprocessor.get(name, wanted) != wanted:
            raise DetrkitError(f"{source} has {name} {preprocessor[name]}, but detrkit needs {wanted}.")
    longest = preprocessor.get("max_size") or 1333
    match preprocessor.get("size"):
        case None:
            return {}
        case int(shortest):
            return _sizes(shortest, longest)
        case {"shortest_edge": int(shortest), **rest}:
            return _sizes(shortest, rest.get("longest_edge") or longest)
        case {"max_height": int(height), "max_width": int(width)} if height == width:
            return _sizes(height, width)
        case _ if "data.eval_short_side" in overrides:
            return {}
        case other:
            raise DetrkitError(
                f"{source} has size {other}, which detrkit cannot resize to: add --set "
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
    if len(ordered) == len(COCO_91) and all(ordered[label] == name for label, name, used in COCO_91 if used):
        return COCO_91
    return tuple(
        Category(label, f"unused {label}", used=False) if name == _UNUSED else Category(label, name)
        for label, name in enumerate(ordered)
    )


def require_expressible(experiment: Experiment, source: Path) -> None:
    """Refuse a detector that transformers has no network for."""
    require_detr_alone(experiment, source, "transformers' DETR", {"model.transformer.pre_norm": False})


def to_config(experiment: Experiment, categories: tuple[Category, ...], dtype: str) -> Json:
    """A config.json: of transformers' own ResNet, unless it is dilated, which only timm's can be."""
    model = experiment.model
    transformer = model.transformer
    names = [category.name if category.used else _UNUSED for category in categories]
    return {
        "architectures": ["DetrForObjectDetection"],
        "model_type": "detr",
        "dtype": dtype,
        **_backbone_config(model.backbone),
        "d_model": transformer.width,
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
        "position_embedding_type": model.encoder.position,
        "auxiliary_loss": False,
        **_loss_config(experiment),
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
    }


def to_preprocessor(data: DataSettings) -> Json:
    """A preprocessor_config.json that resizes images as evaluation here does."""
    return {
        "image_processor_type": "DetrImageProcessor",
        "format": "coco_detection",
        "do_resize": True,
        "size": {"shortest_edge": data.eval_short_side, "longest_edge": data.max_size},
        "resample": 2,  # bilinear
        **_PIXELS,
        "do_pad": True,
    }


def _require_known(config: Json, source: Path) -> None:
    if config["auxiliary_loss"]:
        raise DetrkitError(
            f"{source} has auxiliary_loss true, with which transformers normalises the queries between "
            "decoder layers, and detrkit, as the paper, does not: if the weights are of a training without "
            "it, set it to false there."
        )
    for name, wanted in (
        ("activation_function", "relu"),
        ("num_channels", 3),
        ("decoder_attention_heads", config["encoder_attention_heads"]),
        ("decoder_ffn_dim", config["encoder_ffn_dim"]),
    ):
        if config[name] != wanted:
            raise DetrkitError(f"{source} has {name} {config[name]}, but detrkit needs {wanted}.")


def _backbone_settings(config: Json, source: Path) -> Json:
    about = config.get("backbone_config") or config.get("backbone_kwargs") or {}
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
            f"{source} has timm's backbone '{name}' with output_stride {stride}, but detrkit has "
            f"{', '.join(_RESNETS)} with 32 or 16."
        )
    return {"name": known[1], "norm": "frozen", "dilation": stride == 16}


def _last(about: Json, name: str) -> object:
    values = about.get(name)
    return values[-1] if isinstance(values, list) and values else None


def _resnet(about: Json, source: Path) -> str:
    found = _resnet_config("resnet50") | about
    for name in _RESNETS:
        if all(found[key] == value for key, value in _resnet_config(name).items()):
            return name
    raise DetrkitError(
        f"{source} has a ResNet with layer_type '{found['layer_type']}', depths {found['depths']} and "
        f"hidden_sizes {found['hidden_sizes']}, but detrkit has {', '.join(_RESNETS)} in their usual form."
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


def _backbone_config(backbone: BackboneSettings) -> Json:
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


def _loss_config(experiment: Experiment) -> Json:
    """The weights of training, which are whole numbers in transformers."""
    matching, loss = experiment.matching, experiment.loss
    weights = {
        "class_cost": matching.classification,
        "bbox_cost": matching.l1,
        "giou_cost": matching.giou,
        "bbox_loss_coefficient": loss.l1,
        "giou_loss_coefficient": loss.giou,
    }
    lost = {name: value for name, value in weights.items() if not value.is_integer()}
    if loss.classification != 1:
        lost["loss.classification"] = loss.classification
    if lost:
        logger.warning(
            "transformers cannot hold %s and would train with its defaults; what it predicts is the same.",
            ", ".join(f"{name} {value}" for name, value in lost.items()),
        )
    whole = {name: int(value) for name, value in weights.items() if name not in lost}
    assert isinstance(experiment.scoring, SoftmaxSettings)
    return whole | {"eos_coefficient": experiment.scoring.no_object}
