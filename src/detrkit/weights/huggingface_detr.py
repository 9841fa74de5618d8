"""transformers' ``DetrForObjectDetection``: our ``plain`` decoder (Carion et al. 2020).

Files have the names of version 4. Version 5 renames what it reads, and renames it back where it saves.
"""

from pathlib import Path

from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.settings.objective import SoftmaxSettings
from detrkit.weights import huggingface_config
from detrkit.weights.huggingface_config import Json
from detrkit.weights.huggingface_family import (
    BACKBONE,
    Family,
    attention_names,
    encoder_names,
    layer_names,
    perceptron_names,
    position_names,
)
from detrkit.weights.rename import OF_DETR, Rules, require_settings

_DEFAULTS = huggingface_config.DEFAULTS | {
    "d_model": 256,
    "num_queries": 100,
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "eos_coefficient": 0.1,
    "class_cost": 1,
}
"""``DetrConfig``'s, for what a file leaves out."""

_NAMES = {
    **encoder_names(),
    **position_names(),
    "decoder.queries": "model.query_position_embeddings.weight",
    **layer_names(
        "decoder",
        {
            **attention_names("self_attention", "self_attn"),
            "after_self_attention.norm": "self_attn_layer_norm",
            **attention_names("cross_attention", "encoder_attn"),
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
    # the name in version 4 of the one thing that version 5 does not rename back
    (r"model\.backbone\.position_embedding\.(.*)", r"model.position_embedding.\1"),
    (r"(.*)", r"\1"),
)


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
            "decoder": {"layers": config["decoder_layers"], "queries": config["num_queries"]},
        },
        "scoring": {"no_object": config["eos_coefficient"]},
        **huggingface_config.objective_settings(config),
    }


def _to_config(experiment: Experiment) -> Json:
    scoring, weight = experiment.scoring, experiment.loss.classification
    assert isinstance(scoring, SoftmaxSettings)
    model = detr_settings(experiment, "transformers' layout")
    unheld = {"loss.classification": weight} if weight != 1 else {}
    return {
        "d_model": model.transformer.width,
        "position_embedding_type": model.encoder.position,
        "auxiliary_loss": False,
        "eos_coefficient": scoring.no_object,
        **huggingface_config.objective_config(experiment, {}, unheld),
    }


def _require_expressible(experiment: Experiment, path: Path) -> None:
    wanted = OF_DETR | {"model.transformer.pre_norm": False}
    require_settings(experiment, path, "transformers' DETR", wanted)


DETR = Family(
    model_type="detr",
    architecture="DetrForObjectDetection",
    image_processor="DetrImageProcessor",
    names=_NAMES,
    timm=BACKBONE,
    to_file=_TO_FILE,
    to_settings=_to_settings,
    to_config=_to_config,
    require_expressible=_require_expressible,
)
