"""What one kind of transformers' detectors is, and the names that all kinds have for the same parts."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from detrkit.catalog import Category
from detrkit.settings.experiment import Experiment, detr_settings
from detrkit.weights import huggingface_config
from detrkit.weights.huggingface_config import Json
from detrkit.weights.rename import Layout, Place, Rules, rename

Names = Mapping[str, str]
"""From what the names of tensors start with here to what they start with in a file; `*` is a number."""

BACKBONE = "model.backbone.conv_encoder.model"
"""What the names of the ResNet's tensors start with."""


class Family(NamedTuple):
    """One kind of detector there: what its config.json says, and what it calls its tensors.

    Attributes:
        names: Of everything behind the ResNet.
        timm: What the names of a ResNet of timm's start with.
        to_file: From the names that versions of transformers have had to those of ``names``.
        to_settings: What a config.json states; DetrkitError where it would be another network here.
        to_config: What of a config.json is particular to this kind.
        require_expressible: Refuses a detector that this kind has no network for, naming the path.
    """

    model_type: str
    architecture: str
    image_processor: str
    names: Names
    timm: str
    to_file: Rules
    to_settings: Callable[[Json, Path], Json]
    to_config: Callable[[Experiment], Json]
    require_expressible: Callable[[Experiment, Path], None]


def native_layout(family: Family) -> Layout:
    """The places of a network's tensors if the ResNet is transformers' own."""
    return _layout({**_native_backbone(), **family.names})


def timm_layout(family: Family) -> Layout:
    """The places of a network's tensors if the ResNet is timm's, whose names are torchvision's."""
    return _layout({"backbone.stem": family.timm, "backbone": family.timm, **family.names})


def to_config(family: Family, experiment: Experiment, categories: tuple[Category, ...], dtype: str) -> Json:
    """A config.json: of transformers' own ResNet, unless it is dilated, which only timm's can be."""
    model = detr_settings(experiment, "transformers' layout")
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "dtype": dtype,
        **huggingface_config.backbone_config(model.backbone),
        **huggingface_config.layers_config(model),
        **family.to_config(experiment),
        **huggingface_config.labels_config(categories),
    }


def encoder_names() -> Names:
    """The encoder, which all kinds call the same."""
    layer = {
        **attention_names("attention", "self_attn"),
        "after_attention.norm": "self_attn_layer_norm",
        "feedforward.0": "fc1",
        "feedforward.1": "activation_fn",
        "feedforward.3": "fc2",
        "after_feedforward.norm": "final_layer_norm",
    }
    return {"encoder.project.0": "model.input_projection", **layer_names("encoder", layer)}


def position_names() -> Names:
    """The learned table of rows and columns."""
    return {
        "encoder.position.rows": "model.position_embedding.row_embeddings.weight",
        "encoder.position.columns": "model.position_embedding.column_embeddings.weight",
    }


def attention_names(ours: str, theirs: str) -> Names:
    """The four projections of attention."""
    projections = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    return {f"{ours}.{here}": f"{theirs}.{there}" for here, there in projections.items()}


def perceptron_names(ours: str, theirs: str, layers: int) -> Names:
    """The linear layers of a perceptron; ours counts the activations between them too."""
    return {f"{ours}.{2 * layer}": f"{theirs}.layers.{layer}" for layer in range(layers)}


def layer_names(part: str, layer: Names) -> Names:
    """Every layer of the ``part``, encoder or decoder."""
    return {f"{part}.layers.*.{ours}": f"model.{part}.layers.*.{theirs}" for ours, theirs in layer.items()}


def _native_backbone() -> dict[str, str]:
    names = {
        "backbone.stem.conv1": f"{BACKBONE}.embedder.embedder.convolution",
        "backbone.stem.bn1": f"{BACKBONE}.embedder.embedder.normalization",
    }
    for stage in range(4):
        block, place = f"backbone.layer{stage + 1}.*", f"{BACKBONE}.encoder.stages.{stage}.layers.*"
        names[f"{block}.downsample.0"] = f"{place}.shortcut.convolution"
        names[f"{block}.downsample.1"] = f"{place}.shortcut.normalization"
        for conv in range(3):
            names[f"{block}.conv{conv + 1}"] = f"{place}.layer.{conv}.convolution"
            names[f"{block}.bn{conv + 1}"] = f"{place}.layer.{conv}.normalization"
    return names


def _layout(names: Names) -> Layout:
    rules = tuple(_rules(names))
    return lambda name: Place(rename(name, rules))


def _rules(names: Names) -> Iterator[tuple[str, str]]:
    for ours, theirs in names.items():
        pattern = re.escape(ours).replace(r"\*", r"(\d+)")
        rest = pattern.count("(") + 1
        yield rf"{pattern}((?:\..+)?)", theirs.replace("*", r"\1") + rf"\{rest}"
