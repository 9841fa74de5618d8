"""transformers' ``DabDetrForObjectDetection``: our ``anchor`` decoder (Liu et al. 2022).

All versions have the same names, but a file holds the box head once only, under either of two names: the
decoder's layers, which move the anchors by it, share it with the answer.
"""

import logging
import math
from pathlib import Path

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.settings.model import AnchorDecoderSettings
from detrkit.weights import huggingface_config
from detrkit.weights.huggingface_config import Json
from detrkit.weights.huggingface_family import (
    BACKBONE,
    Family,
    encoder_names,
    layer_names,
    perceptron_names,
)
from detrkit.weights.rename import OF_DETR, Rules, require_settings
from detrkit.weights.store import Stored

logger = logging.getLogger(__name__)

_DEFAULTS = huggingface_config.FOCAL_DEFAULTS | {
    "hidden_size": 256,
    "activation_function": "prelu",
    "temperature_height": 20,
    "temperature_width": 20,
    "query_dim": 4,
    "keep_query_pos": False,
    "num_patterns": 0,
    "normalize_before": False,
    "sine_position_embedding_scale": None,
    "initializer_bias_prior_prob": None,
}
"""``DabDetrConfig``'s, for what a file leaves out."""

_NEEDED: Json = {
    "num_channels": 3,
    "query_dim": 4,
    "num_patterns": 0,
    "keep_query_pos": False,
    "normalize_before": False,
}
"""What detrkit has no other network for."""

_NAMES = {
    **encoder_names(),
    **perceptron_names("encoder.modulate", "model.encoder.query_scale", 2),
    "decoder.anchors": "model.query_refpoint_embeddings.weight",
    **perceptron_names("decoder.place", "model.decoder.ref_point_head", 2),
    **perceptron_names("decoder.modulate", "model.decoder.query_scale", 2),
    **perceptron_names("decoder.size", "model.decoder.ref_anchor_head", 2),
    **layer_names(
        "decoder",
        {
            "self_attention.query": "self_attn.self_attn_query_content_proj",
            "self_attention.query_place": "self_attn.self_attn_query_pos_proj",
            "self_attention.key": "self_attn.self_attn_key_content_proj",
            "self_attention.key_place": "self_attn.self_attn_key_pos_proj",
            "self_attention.value": "self_attn.self_attn_value_proj",
            "self_attention.output": "self_attn.self_attn.output_proj",
            "after_self_attention.norm": "self_attn.self_attn_layer_norm",
            "cross_attention.query": "cross_attn.cross_attn_query_content_proj",
            "cross_attention.query_place": "cross_attn.cross_attn_query_pos_proj",
            "cross_attention.query_gaze": "cross_attn.cross_attn_query_pos_sine_proj",
            "cross_attention.key": "cross_attn.cross_attn_key_content_proj",
            "cross_attention.key_position": "cross_attn.cross_attn_key_pos_proj",
            "cross_attention.value": "cross_attn.cross_attn_value_proj",
            "cross_attention.output": "cross_attn.cross_attn.output_proj",
            "after_cross_attention.norm": "cross_attn.cross_attn_layer_norm",
            "feedforward.0": "mlp.fc1",
            "feedforward.1": "mlp.activation_fn",
            "feedforward.3": "mlp.fc2",
            "after_feedforward.norm": "mlp.final_layer_norm",
        },
    ),
    "decoder.norm": "model.decoder.layernorm",
    "decoder.heads.classes": "class_embed",
    **perceptron_names("decoder.heads.boxes", "bbox_predictor", 3),
}

_TO_FILE: Rules = (
    # the one name that version 4 keeps of two for the same tensors, where version 5 keeps the other
    (r"model\.decoder\.bbox_embed\.(.*)", r"bbox_predictor.\1"),
    (r"(.*)", r"\1"),
)

_FREE = ("model.transformer.activation", "model.encoder.temperature")
_EXPRESSIBLE: dict[str, object] = {name: value for name, value in OF_DETR.items() if name not in _FREE} | {
    "model.transformer.pre_norm": False,
    "model.encoder.position": "sine",
    "model.encoder.modulate_position": True,
    "model.decoder.kind": "anchor",
    "model.decoder.temperature": 10_000,
    "scoring.kind": "focal",
}
"""The settings that it leaves no choice in."""


def without_training_parts(stored: Stored) -> Stored:
    """The same detector without the tensors that only training uses, of which a warning tells.

    Those are the further groups of anchors and the labels of denoising. Answers are the same without.
    """
    model = detr_settings(stored.experiment, "transformers' layout")
    decoder = model.decoder
    if not isinstance(decoder, AnchorDecoderSettings):
        return stored
    parts = ("network.decoder.further_anchors", "network.decoder.denoising.")
    dropped = [name for name in stored.tensors if name.startswith(parts)]
    if not dropped:
        return stored
    logger.warning(
        "transformers has no place for what only training uses: left out are %s, and model.decoder.groups "
        "%d and model.decoder.denoising.groups %d become 1 and 0; what it predicts is the same.",
        ", ".join(dropped),
        decoder.groups,
        decoder.denoising.groups,
    )
    denoising = decoder.denoising.model_copy(update={"groups": 0})
    alone = decoder.model_copy(update={"groups": 1, "denoising": denoising})
    model = model.model_copy(update={"decoder": alone})
    kept = {name: tensor for name, tensor in stored.tensors.items() if name not in dropped}
    experiment = stored.experiment.model_copy(update={"model": model})
    return stored._replace(experiment=experiment, tensors=kept)


def _to_settings(config: Json, source: Path) -> Json:
    """The settings that a config.json states; DetrkitError where it would be another network here."""
    config = _DEFAULTS | config
    _require_known(config, source)
    prior = config["initializer_bias_prior_prob"]
    settings = huggingface_config.focal_settings(config)
    return settings | {
        "model": {
            "backbone": huggingface_config.backbone_settings(config, source),
            "transformer": huggingface_config.transformer_settings(config, config["hidden_size"])
            | {"activation": config["activation_function"]},
            "encoder": {
                "layers": config["encoder_layers"],
                "temperature": config["temperature_height"],
                "modulate_position": True,
            },
            "decoder": {
                "kind": "anchor",
                "layers": config["decoder_layers"],
                "queries": config["num_queries"],
            },
        },
        "scoring": settings["scoring"] | ({} if prior is None else {"prior": prior}),
    }


def _require_known(config: Json, source: Path) -> None:
    huggingface_config.require_values(config, _NEEDED, source)
    huggingface_config.require_equal_layers(config, source)
    same_temperature = {"temperature_width": config["temperature_height"]}
    huggingface_config.require_values(config, same_temperature, source)
    if config["activation_function"] != "relu":
        huggingface_config.require_values(config, {"activation_function": "prelu"}, source)
    if config["sine_position_embedding_scale"] is not None:
        huggingface_config.require_values(config, {"sine_position_embedding_scale": 2 * math.pi}, source)


def _to_config(experiment: Experiment) -> Json:
    model = detr_settings(experiment, "transformers' layout")
    assert experiment.scoring.kind == "focal"
    return {
        "hidden_size": model.transformer.width,
        "activation_function": model.transformer.activation,
        "temperature_height": int(model.encoder.temperature),
        "temperature_width": int(model.encoder.temperature),
        "num_patterns": 0,
        "keep_query_pos": False,
        # which changes nothing but that every layer is trained, as here
        "auxiliary_loss": True,
        "initializer_bias_prior_prob": experiment.scoring.prior,
        **huggingface_config.focal_config(experiment),
    }


def _require_expressible(experiment: Experiment, path: Path) -> None:
    require_settings(experiment, path, "transformers' DAB-DETR", _EXPRESSIBLE)
    temperature = detr_settings(experiment, "transformers' layout").encoder.temperature
    if not temperature.is_integer():
        raise DetrkitError(
            f"{path} cannot be written: transformers' DAB-DETR has a whole number as "
            f"model.encoder.temperature only, not {temperature}; a .safetensors file of detrkit's holds "
            "every detector."
        )


DAB_DETR = Family(
    model_type="dab-detr",
    architecture="DabDetrForObjectDetection",
    image_processor="ConditionalDetrImageProcessor",
    names=_NAMES,
    timm=f"{BACKBONE}._backbone",
    to_file=_TO_FILE,
    to_settings=_to_settings,
    to_config=_to_config,
    require_expressible=_require_expressible,
)
