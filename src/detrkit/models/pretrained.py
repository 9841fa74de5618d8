"""Starting weights of the backbone: torchvision's ImageNet weights, or a file in the same layout."""

from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from detrkit.errors import DetrkitError
from detrkit.models.backbone import Backbone
from detrkit.settings.model import BackboneSettings

_STEM = ("conv1", "bn1")
_STAGES = ("layer1", "layer2", "layer3", "layer4")


def load_pretrained(backbone: Backbone, settings: BackboneSettings) -> None:
    """Load the weights that ``model.backbone.weights`` names; ``none`` leaves the random ones.

    A detector has no use for the classifier of an ImageNet network (``fc``), nor for stages that the
    backbone leaves out.

    Raises:
        DetrkitError: where the weights cannot be had or do not fit. Nothing is loaded in part.
    """
    match settings.weights:
        case "none":
            return
        case "imagenet":
            weights, source = _imagenet(settings.name)
        case path:
            weights, source = _read(Path(path)), path
    unused = ("fc.", *(f"{stage}." for stage in _STAGES if not hasattr(backbone, stage)))
    named = {_name_here(name): value for name, value in weights.items() if not name.startswith(unused)}
    _require_fit(named, backbone, source, settings.name)
    backbone.load_state_dict(named, strict=False)


def _imagenet(name: str) -> tuple[dict[str, Tensor], str]:
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    file_name = Path(urlparse(weights.url).path).name
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        found = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001 a damaged file in the folder makes torch raise almost anything
        raise DetrkitError(
            f"ImageNet's weights for {name} cannot be had ({_reason(error)}): put {file_name} from "
            f"{weights.url} into {folder}, or set model.backbone.weights to a file, or to none (random)."
        ) from None
    return dict(found), file_name


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DetrkitError(
            f"model.backbone.weights is '{path}', which is no file; it may be imagenet, none, or a .pth or "
            ".safetensors file of a ResNet."
        )
    try:
        found = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # noqa: BLE001 torch.load raises whatever the bytes of a damaged file provoke
        raise DetrkitError(f"{path} is not a readable file of weights: {_reason(error)}.") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DetrkitError(f"{path} does not hold a ResNet's state dict of tensors.")
    return found


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _name_here(name: str) -> str:
    return f"stem.{name}" if name.split(".")[0] in _STEM else name


def _require_fit(weights: dict[str, Tensor], backbone: Backbone, source: str, name: str) -> None:
    wanted = backbone.state_dict()
    # Frozen BatchNorm has no use for the count of batches, and older files lack it.
    extra = [key for key in weights if key not in wanted and not key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in weights and not key.endswith("num_batches_tracked")]
    if extra or missing:
        raise DetrkitError(
            f"{source} does not hold the weights of {name}: {len(missing)} tensors are missing"
            f"{_example(missing)} and {len(extra)} are unknown{_example(extra)}."
        )
    for key, value in weights.items():
        if key in wanted and value.shape != wanted[key].shape:
            raise DetrkitError(
                f"{source} does not hold the weights of {name}: '{key}' has shape {tuple(value.shape)}, "
                f"not {tuple(wanted[key].shape)}."
            )


def _example(names: list[str]) -> str:
    return f" (such as '{names[0]}')" if names else ""
