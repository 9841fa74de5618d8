"""Starting weights of a backbone: torchvision's ImageNet weights, or a file in the same layout."""

from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from detrkit.errors import DetrkitError, shown
from detrkit.models.pickled import require_tensors, unpickle
from detrkit.models.ssd import feature_maps
from detrkit.settings.classical import MobileNetSettings, VggSettings
from detrkit.settings.model import ResNetSettings

_STEM = ("conv1.", "bn1.")
_STAGES = ("layer1", "layer2", "layer3", "layer4")


def load_pretrained(backbone: nn.Module, settings: ResNetSettings | VggSettings | MobileNetSettings) -> None:
    """Load the weights that ``model.backbone.weights`` names; ``none`` leaves the random ones.

    A detector has no use for the classifier of an ImageNet network, nor for stages that the backbone leaves
    out. What SSD adds to such a network stays random.

    Raises:
        DetrkitError: where the weights cannot be had or do not fit. Nothing is loaded in part.
    """
    match settings.weights:
        case "none":
            return
        case "imagenet":
            weights, source = _imagenet(settings.name)
        case path:
            weights, source = read_weights(Path(path)), path
    if isinstance(settings, ResNetSettings):
        _load_resnet(backbone, weights, source, settings.name)
    else:
        _load_features(backbone, weights, source, settings)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file; DetrkitError where it holds anything else."""
    if not path.is_file():
        raise DetrkitError(
            f"model.backbone.weights is '{path}', which is no file; it may be imagenet, none, or a .pth or "
            ".safetensors file of a ResNet."
        )
    if path.suffix != ".safetensors":
        return require_tensors(unpickle(path), path)
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 a damaged file makes safetensors raise almost anything
        raise DetrkitError(f"{path} is not a readable file of weights: {_reason(error)}.") from None


def _load_resnet(backbone: nn.Module, weights: dict[str, Tensor], source: str, name: str) -> None:
    unused = ("fc.", *(f"{stage}." for stage in _STAGES if not hasattr(backbone, stage)))
    stem = "stem." if hasattr(backbone, "stem") else ""
    named = {
        f"{stem if key.startswith(_STEM) else ''}{key}": value
        for key, value in weights.items()
        if not key.startswith(unused)
    }
    _require_fit(named, backbone, source, name)
    backbone.load_state_dict(named, strict=False)


def _load_features(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    source: str,
    settings: VggSettings | MobileNetSettings,
) -> None:
    """Load the features of an ImageNet network, which SSD's backbone has at other places."""
    layers, same_backbone = feature_maps(settings)
    start = "features."
    named = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
    _require_fit(named, layers, source, settings.name)
    layers.load_state_dict(named, strict=False)
    loaded = {id(tensor) for tensor in layers.state_dict(keep_vars=True).values()}
    placed = same_backbone.state_dict(keep_vars=True)
    backbone.load_state_dict(
        {key: tensor for key, tensor in placed.items() if id(tensor) in loaded}, strict=False
    )


def _imagenet(name: str) -> tuple[dict[str, Tensor], str]:
    # the features alone, which SSD was trained with (Simonyan & Zisserman 2015)
    version = "IMAGENET1K_FEATURES" if name == "vgg16" else "IMAGENET1K_V1"
    weights = torchvision.models.get_model_weights(name)[version]
    instead = "set model.backbone.weights to a file, or to none (random)"
    return fetch(weights, f"ImageNet's weights for {name}", instead)


def fetch(weights: WeightsEnum, what: str, instead: str) -> tuple[dict[str, Tensor], str]:
    """(tensors, file name) of weights that torchvision publishes, downloaded unless they are there already.

    Raises:
        DetrkitError: where they cannot be had; ``instead`` says what else to do.
    """
    file_name = Path(urlparse(weights.url).path).name
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        found = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001 a damaged file in the folder makes torch raise almost anything
        raise DetrkitError(
            f"{what} cannot be had ({_reason(error)}): put {file_name} from {weights.url} into {folder}, or "
            f"{instead}."
        ) from None
    return dict(found), file_name


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _require_fit(weights: dict[str, Tensor], backbone: nn.Module, source: str, name: str) -> None:
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
    return f" (such as {shown(names[0])})" if names else ""
