"""Folders of transformers' ``DetrForObjectDetection``, read and written without transformers.

Such a folder holds ``config.json``, ``model.safetensors`` (or shards of it) and mostly
``preprocessor_config.json``. Its ResNet has timm's names, as in the published ``facebook/detr-resnet-50``,
or those of transformers' own ``ResNetBackbone``. Files have the names of version 4 of transformers:
version 5 renames what it reads, and renames it back where it saves.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import parse
from detrkit.weights import huggingface_config, store
from detrkit.weights.huggingface_config import Json
from detrkit.weights.rename import Place, Rules, from_stored, rename, to_stored
from detrkit.weights.store import Stored

CONFIG = "config.json"
"""What marks a folder as one of transformers'."""
_PREPROCESSOR = "preprocessor_config.json"
_WEIGHTS = "model.safetensors"
_SHARDS = "model.safetensors.index.json"

_BACKBONE = "model.backbone.conv_encoder.model"


def _attention_rules() -> Iterator[tuple[str, str]]:
    projections = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    for ours, theirs in projections.items():
        yield rf"(.*)\.(?:self_)?attention\.{ours}\.(.*)", rf"model.\1.self_attn.{theirs}.\2"
        yield rf"(.*)\.cross_attention\.{ours}\.(.*)", rf"model.\1.encoder_attn.{theirs}.\2"


def _native_rules() -> Iterator[tuple[str, str]]:
    yield r"backbone\.stem\.conv1\.(.*)", rf"{_BACKBONE}.embedder.embedder.convolution.\1"
    yield r"backbone\.stem\.bn1\.(.*)", rf"{_BACKBONE}.embedder.embedder.normalization.\1"
    for stage in range(4):
        block, place = rf"backbone\.layer{stage + 1}\.(\d+)", rf"{_BACKBONE}.encoder.stages.{stage}.layers.\1"
        yield rf"{block}\.downsample\.0\.(.*)", rf"{place}.shortcut.convolution.\2"
        yield rf"{block}\.downsample\.1\.(.*)", rf"{place}.shortcut.normalization.\2"
        for conv in range(3):
            yield rf"{block}\.conv{conv + 1}\.(.*)", rf"{place}.layer.{conv}.convolution.\2"
            yield rf"{block}\.bn{conv + 1}\.(.*)", rf"{place}.layer.{conv}.normalization.\2"


_TRANSFORMER: Rules = (
    (r"encoder\.project\.0\.(.*)", r"model.input_projection.\1"),
    (r"encoder\.position\.rows", r"model.position_embedding.row_embeddings.weight"),
    (r"encoder\.position\.columns", r"model.position_embedding.column_embeddings.weight"),
    (r"decoder\.queries", r"model.query_position_embeddings.weight"),
    (r"decoder\.norm\.(.*)", r"model.decoder.layernorm.\1"),
    (r"decoder\.heads\.classes\.(.*)", r"class_labels_classifier.\1"),
    (r"decoder\.heads\.boxes\.0\.(.*)", r"bbox_predictor.layers.0.\1"),
    (r"decoder\.heads\.boxes\.2\.(.*)", r"bbox_predictor.layers.1.\1"),
    (r"decoder\.heads\.boxes\.4\.(.*)", r"bbox_predictor.layers.2.\1"),
    (r"(.*)\.feedforward\.0\.(.*)", r"model.\1.fc1.\2"),
    (r"(.*)\.feedforward\.3\.(.*)", r"model.\1.fc2.\2"),
    (r"(.*)\.after_(?:self_)?attention\.norm\.(.*)", r"model.\1.self_attn_layer_norm.\2"),
    (r"(.*)\.after_cross_attention\.norm\.(.*)", r"model.\1.encoder_attn_layer_norm.\2"),
    (r"(.*)\.after_feedforward\.norm\.(.*)", r"model.\1.final_layer_norm.\2"),
    *_attention_rules(),
)
_TIMM: Rules = ((r"backbone\.(?:stem\.)?(.*)", rf"{_BACKBONE}.\1"), *_TRANSFORMER)
_NATIVE: Rules = (*_native_rules(), *_TRANSFORMER)

_TO_FILE: Rules = (
    # what version 5 calls them in memory, and in files saved with save_original_format=False
    (r"model\.backbone\.model\.(.*)", rf"{_BACKBONE}.\1"),
    (r"(.*_attn)\.o_proj\.(.*)", r"\1.out_proj.\2"),
    (r"(.*)\.mlp\.(fc[12])\.(.*)", r"\1.\2.\3"),
    # the name in version 4 of the one thing that version 5 does not rename back
    (r"model\.backbone\.position_embedding\.(.*)", r"model.position_embedding.\1"),
    (r"(.*)", r"\1"),
)


def timm_layout(name: str) -> Place:
    """Where the tensor ``name`` of a DETR network stands if the ResNet is timm's."""
    return Place(rename(name, _TIMM))


def native_layout(name: str) -> Place:
    """Where the tensor ``name`` of a DETR network stands if the ResNet is transformers' own."""
    return Place(rename(name, _NATIVE))


def read(folder: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What such a folder holds, under the names of a detector's state here.

    Settings and categories are those that ``write`` noted beside the tensors, else what the json files say.

    Raises:
        DetrkitError: where a file is missing or damaged, or the model is none that detrkit has.
    """
    config = _read_json(folder / CONFIG)
    huggingface_config.require_detr(config, folder / CONFIG)
    timm = huggingface_config.has_timm_backbone(config, folder / CONFIG)
    tensors, metadata = _read_tensors(folder)
    if "detrkit" in metadata:
        experiment, categories = store.from_metadata(metadata, folder / _WEIGHTS, overrides)
    else:
        experiment = parse(_settings(folder, config, overrides or {}), str(folder), overrides)
        categories = huggingface_config.to_categories(config, folder / CONFIG)
    return to_stored(tensors, timm_layout if timm else native_layout, experiment, categories, str(folder))


def write(folder: Path, stored: Stored) -> None:
    """Write a DETR as a folder that transformers loads: without timm, unless it is dilated (DC5).

    Beside the tensors it notes settings and categories, for the way back. The tensors come last: a folder
    without them is no model.

    Raises:
        DetrkitError: where transformers has no such DETR, or ``folder`` is something else already.
    """
    experiment, categories, tensors = stored
    huggingface_config.require_expressible(experiment, folder)
    if folder.is_file() or ((folder / _WEIGHTS).exists() and not (folder / CONFIG).exists()):
        raise DetrkitError(f"{folder} is there and no folder of transformers: name another one.")
    folder.mkdir(parents=True, exist_ok=True)
    dtype = str(tensors["network.decoder.queries"].dtype).removeprefix("torch.")
    _write_json(folder / CONFIG, huggingface_config.to_config(experiment, categories, dtype))
    _write_json(folder / _PREPROCESSOR, huggingface_config.to_preprocessor(experiment.data))
    layout = timm_layout if experiment.model.backbone.dilation else native_layout
    # Version 4 refuses a file that does not say that it is PyTorch's.
    metadata = store.to_metadata(experiment, categories) | {"format": "pt"}
    store.write_tensors(folder / _WEIGHTS, from_stored(stored, layout), metadata)


def _settings(folder: Path, config: Json, overrides: Mapping[str, object]) -> Json:
    tree = huggingface_config.to_settings(config, folder / CONFIG)
    path = folder / _PREPROCESSOR
    if path.exists():
        tree["data"] = huggingface_config.to_data_settings(_read_json(path), path, overrides)
    return tree


def _read_tensors(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors under the names that files have, metadata)."""
    if (folder / _WEIGHTS).exists():
        found, metadata = store.read_tensors(folder / _WEIGHTS)
    elif (folder / _SHARDS).exists():
        found, metadata = _read_shards(folder), {}
    elif (folder / "pytorch_model.bin").exists():
        raise DetrkitError(
            f"{folder} has its weights in pytorch_model.bin only, which is a pickle: load it with "
            f"transformers and save it with save_pretrained, which writes {_WEIGHTS}."
        )
    else:
        raise DetrkitError(f"{folder} has a {CONFIG}, but no {_WEIGHTS}.")
    # Published files have the counts of batches, which a frozen BatchNorm has no use for.
    kept = {name: tensor for name, tensor in found.items() if not name.endswith("num_batches_tracked")}
    return {rename(name, _TO_FILE): tensor for name, tensor in kept.items()}, metadata


def _read_shards(folder: Path) -> dict[str, Tensor]:
    files = _read_json(folder / _SHARDS).get("weight_map")
    if not isinstance(files, dict):
        raise DetrkitError(f"{folder / _SHARDS} has no weight_map, from tensors to files.")
    found: dict[str, Tensor] = {}
    for file in sorted({Path(str(file)).name for file in files.values()}):
        found |= store.read_tensors(folder / file)[0]
    return found


def _read_json(path: Path) -> Json:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DetrkitError(
            f"there is no {path}, which transformers' save_pretrained writes beside the weights."
        ) from None
    except (OSError, ValueError) as error:
        raise DetrkitError(f"{path} cannot be read: {error}.") from None
    if not isinstance(tree, dict):
        raise DetrkitError(f"{path} is no JSON object.")
    return tree


def _write_json(path: Path, tree: Json) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")
    store.replace(temporary, path)
