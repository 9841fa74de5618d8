"""transformers' ``ConditionalDetrForObjectDetection``: our ``conditional`` decoder (Meng et al. 2021).

Files have the names of version 4. Version 5 renames what it reads, and renames it back where it saves.
"""

from pathlib import Path

from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.weights import huggingface_config
from detrkit.weights.huggingface_config import Json
from detrkit.weights.huggingface_family import (
    BACKBONE,
    Family,
    encoder_names,
    layer_names,
    perceptron_names,
    position_names,
)
from detrkit.weights.rename import OF_DETR, Rules, require_settings

_DEFAULTS = huggingface_config.FOCAL_DEFAULTS | {
    "d_model": 256,
    "activation_function": "relu",
    "position_embedding_type": "sine",
}
"""``ConditionalDetrConfig``'s, for what a file leaves out."""

_NAMES = {
    **encoder_names(),
    **position_names(),
    "decoder.queries": "model.query_position_embeddings.weight",
    **perceptron_names("decoder.reference_point", "model.decoder.ref_point_head", 2),
    **perceptron_names("decoder.modulate", "model.decoder.query_scale", 2),
    **layer_names(
        "decoder",
        {
            "self_attention.query": "sa_qcontent_proj",
            "self_attention.query_place": "sa_qpos_proj",
            "self_attention.key": "sa_kcontent_proj",
            "self_attention.key_place": "sa_kpos_proj",
            "self_attention.value": "sa_v_proj",
            "self_attention.output": "self_attn.out_proj",
            "after_self_attention.norm": "self_attn_layer_norm",
            "cross_attention.query": "ca_qcontent_proj",
            "cross_attention.query_place": "ca_qpos_proj",
            "cross_attention.query_gaze": "ca_qpos_sine_proj",
            "cross_attention.key": "ca_kcontent_proj",
            "cross_attention.key_position": "ca_kpos_proj",
            "cross_attention.value": "ca_v_proj",
            "cross_attention.output": "encoder_attn.out_proj",
            "after_cross_attention.norm": "encoder_attn_layer_norm",
            "feedforward.0": "fc1",
            "feedforward.3": "fc2",
            "after_feedforward.norm": "final_layer_norm",
        },
    ),
    "decoder.norm": "model.decoder.layernorm",
    "decoder.heads.classes": "class_labels_classifier",
    **perceptron_names("decoder.heads.boxes", "bbox_predictor", 3),
}

_TO_FILE: Rules = (
    # what version 5 calls them in memory, and in files saved with save_original_format=False
    (r"model\.backbone\.model\.(.*)", rf"{BACKBONE}.\1"),
    (r"(.*_attn)\.o_proj\.(.*)", r"\1.out_proj.\2"),
    (r"(.*)\.mlp\.(fc[12])\.(.*)", r"\1.\2.\3"),
    (r"(.*)\.self_attn\.([qk])_(content|pos)_proj\.(.*)", r"\1.sa_\2\3_proj.\4"),
    (r"(.*)\.encoder_attn\.([qk])_(content|pos|pos_sine)_proj\.(.*)", r"\1.ca_\2\3_proj.\4"),
    (r"(model\.decoder\..*)\.self_attn\.v_proj\.(.*)", r"\1.sa_v_proj.\2"),
    (r"(.*)\.encoder_attn\.v_proj\.(.*)", r"\1.ca_v_proj.\2"),
    # the name in version 4 of the one thing that version 5 does not rename back
    (r"model\.backbone\.position_embedding\.(.*)", r"model.position_embedding.\1"),
    (r"(.*)", r"\1"),
)

_EXPRESSIBLE: dict[str, object] = OF_DETR | {
    "model.transformer.pre_norm": False,
    "model.decoder.kind": "conditional",
    "model.decoder.temperature": 10_000,
    "scoring.kind": "focal",
}
"""The settings that it leaves no choice in."""


def _to_settings(config: Json, source: Path) -> Json:
    """The settings that a config.json states; DetrkitError where it would be another network here."""
    config = _DEFAULTS | config
    huggingface_config.refuse_auxiliary_loss(config, source)
    huggingface_config.require_values(config, {"activation_function": "relu", "num_channels": 3}, source)
    huggingface_config.require_equal_layers(config, source)
    return {
        "model": {
            "backbone": huggingface_config.backbone_settings(config, source),
            "transformer": huggingface_config.transformer_settings(config, config["d_model"]),
            "encoder": {"layers": config["encoder_layers"], "position": config["position_embedding_type"]},
            "decoder": {
                "kind": "conditional",
                "layers": config["decoder_layers"],
                "queries": config["num_queries"],
            },
        },
        **huggingface_config.focal_settings(config),
    }


def _to_config(experiment: Experiment) -> Json:
    model = detr_settings(experiment, "transformers' layout")
    return {
        "d_model": model.transformer.width,
        "position_embedding_type": model.encoder.position,
        "auxiliary_loss": False,
        **huggingface_config.focal_config(experiment),
    }


def _require_expressible(experiment: Experiment, path: Path) -> None:
    require_settings(experiment, path, "transformers' Conditional DETR", _EXPRESSIBLE)


CONDITIONAL_DETR = Family(
    model_type="conditional_detr",
    architecture="ConditionalDetrForObjectDetection",
    image_processor="ConditionalDetrImageProcessor",
    names=_NAMES,
    timm=BACKBONE,
    to_file=_TO_FILE,
    to_settings=_to_settings,
    to_config=_to_config,
    require_expressible=_require_expressible,
)
