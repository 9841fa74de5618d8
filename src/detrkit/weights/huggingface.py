"""Folders of transformers' detectors, read and written without transformers.

Such a folder holds ``config.json``, ``model.safetensors`` (or shards of it) and mostly
``preprocessor_config.json``. Its ResNet has timm's names, as in the published ``facebook/detr-resnet-50``,
or those of transformers' own ``ResNetBackbone``. Each kind of detector has a module of its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor

from detrkit.errors import DetrkitError, shown
from detrkit.settings.experiment import detr_settings, parse
from detrkit.settings.model import (
    AnchorDecoderSettings,
    ConditionalDecoderSettings,
    DecoderSettings,
    PlainDecoderSettings,
)
from detrkit.weights import huggingface_config, store
from detrkit.weights.huggingface_conditional import CONDITIONAL_DETR
from detrkit.weights.huggingface_config import Json
from detrkit.weights.huggingface_dab import DAB_DETR, without_training_parts
from detrkit.weights.huggingface_detr import DETR
from detrkit.weights.huggingface_family import Family, native_layout, timm_layout, to_config
from detrkit.weights.rename import Rules, from_stored, rename, to_stored
from detrkit.weights.store import Stored

CONFIG = "config.json"
"""What marks a folder as one of transformers'."""
_PREPROCESSOR = "preprocessor_config.json"
_WEIGHTS = "model.safetensors"
_SHARDS = "model.safetensors.index.json"


def read(folder: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What such a folder holds, under the names of a detector's state here.

    Settings and categories are those that ``write`` noted beside the tensors, else what the json files say.

    Raises:
        DetrkitError: where a file is missing or damaged, or the model is none that detrkit has.
    """
    config = _read_json(folder / CONFIG)
    family = _family_of(config, folder / CONFIG)
    timm = huggingface_config.has_timm_backbone(config, folder / CONFIG)
    tensors, metadata = _read_tensors(folder, family)
    if "detrkit" in metadata:
        experiment, categories = store.from_metadata(metadata, folder / _WEIGHTS, overrides)
    else:
        experiment = parse(_settings(folder, config, family, overrides or {}), str(folder), overrides)
        categories = huggingface_config.to_categories(config, folder / CONFIG)
    layout = timm_layout(family) if timm else native_layout(family)
    return to_stored(tensors, layout, experiment, categories, str(folder))


def write(folder: Path, stored: Stored) -> None:
    """Write a detector as a folder that transformers loads: without timm, unless it is dilated (DC5).

    Beside the tensors it notes settings and categories, for the way back. The tensors come last: a folder
    without them is no model.

    Raises:
        DetrkitError: where transformers has no such detector, or ``folder`` is something else already.
    """
    model = detr_settings(stored.experiment, f"writing {folder} for transformers")
    family = _family_for(model.decoder)
    family.require_expressible(stored.experiment, folder)
    if folder.is_file() or ((folder / _WEIGHTS).exists() and not (folder / CONFIG).exists()):
        raise DetrkitError(f"{folder} is there and no folder of transformers: name another one.")
    stored = without_training_parts(stored)
    experiment, categories, tensors = stored
    folder.mkdir(parents=True, exist_ok=True)
    dtype = str(tensors["network.decoder.heads.classes.weight"].dtype).removeprefix("torch.")
    _write_json(folder / CONFIG, to_config(family, experiment, categories, dtype))
    preprocessor = huggingface_config.to_preprocessor(experiment.data, family.image_processor)
    _write_json(folder / _PREPROCESSOR, preprocessor)
    layout = timm_layout(family) if model.backbone.dilation else native_layout(family)
    # Version 4 refuses a file that does not say that it is PyTorch's.
    metadata = store.to_metadata(experiment, categories) | {"format": "pt"}
    store.write_tensors(folder / _WEIGHTS, from_stored(stored, layout), metadata)


def _family_of(config: Json, source: Path) -> Family:
    """The kind of detector that a config.json is of."""
    match config.get("model_type"):
        case DETR.model_type:
            family = DETR
        case CONDITIONAL_DETR.model_type:
            family = CONDITIONAL_DETR
        case DAB_DETR.model_type:
            family = DAB_DETR
        case other:
            raise DetrkitError(
                f"{source} is of a model of type {shown(other)}, but of transformers' models detrkit reads "
                f"'{DETR.model_type}', '{CONDITIONAL_DETR.model_type}' and '{DAB_DETR.model_type}' only."
            )
    architectures = config.get("architectures") or [family.architecture]
    architecture = architectures[0] if isinstance(architectures, list) else architectures
    if architecture != family.architecture:
        raise DetrkitError(
            f"{source} is of a {shown(architecture)}, but of its kind detrkit reads "
            f"{family.architecture} only."
        )
    return family


def _family_for(decoder: DecoderSettings) -> Family:
    """The kind of detector there that has such a decoder."""
    match decoder:
        case PlainDecoderSettings():
            return DETR
        case ConditionalDecoderSettings():
            return CONDITIONAL_DETR
        case AnchorDecoderSettings():
            return DAB_DETR
        case other:
            assert_never(other)


def _settings(folder: Path, config: Json, family: Family, overrides: Mapping[str, object]) -> Json:
    tree = family.to_settings(config, folder / CONFIG)
    path = folder / _PREPROCESSOR
    if path.exists():
        tree["data"] = huggingface_config.to_data_settings(_read_json(path), path, overrides)
    return tree


def _read_tensors(folder: Path, family: Family) -> tuple[dict[str, Tensor], dict[str, str]]:
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
    return _rename_all(kept, family.to_file, folder), metadata


def _rename_all(found: dict[str, Tensor], rules: Rules, folder: Path) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.items():
        place = rename(name, rules)
        if place in renamed and not torch.equal(renamed[place], tensor):
            raise DetrkitError(
                f"{folder} has two versions of {shown(place)}, one as {shown(name)}, but detrkit needs one: "
                "take a model that was trained with tie_word_embeddings true."
            )
        renamed[place] = tensor
    return renamed


def _read_shards(folder: Path) -> dict[str, Tensor]:
    files = _read_json(folder / _SHARDS).get("weight_map")
    if not isinstance(files, dict):
        raise DetrkitError(f"{folder / _SHARDS} has no weight_map, from tensors to files.")
    found: dict[str, Tensor] = {}
    for file in sorted({_plain_name(file, folder / _SHARDS) for file in files.values()}):
        found |= store.read_tensors(folder / file)[0]
    return found


def _plain_name(name: object, source: Path) -> str:
    """The name of a shard, which may only mean a file beside its index."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\:\0"):
        raise DetrkitError(f"{source} names the shard {shown(name)}, but a file beside it is expected.")
    return name


def _read_json(path: Path) -> Json:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DetrkitError(
            f"there is no {path}, which transformers' save_pretrained writes beside the weights."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DetrkitError(f"{path} cannot be read: {error}.") from None
    if not isinstance(tree, dict):
        raise DetrkitError(f"{path} is no JSON object.")
    return tree


def _write_json(path: Path, tree: Json) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")
    store.replace(temporary, path)
