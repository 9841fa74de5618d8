"""Any file of weights as a detector."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.models.pickled import unpickle
from detrkit.weights import huggingface, official, store, torchvision
from detrkit.weights.store import Stored


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    overrides: Mapping[str, object] | None = None,
) -> Detector:
    """The detector that a file or folder holds, in evaluation mode.

    ``path`` is our ``.safetensors`` file, a run folder, a ``.pth`` of the original release or of one of
    torchvision's detectors, a folder of transformers, or the name of weights that torchvision publishes, such
    as ``FasterRCNN_ResNet50_FPN_Weights.COCO_V1``. ``overrides`` change settings that it states or leaves
    open, such as ``{"data.eval_short_side": 640}``.

    Raises:
        DetrkitError: where it holds none, or tensors that do not fit. Nothing is loaded in part.
    """
    stored = read(Path(path), overrides)
    with torch.device("meta"):  # where settings of any size take no memory
        wanted = build_detector(stored.experiment, stored.categories).state_dict()
    require_same_tensors(stored.tensors, wanted, str(path))
    detector = build_detector(stored.experiment, stored.categories)
    detector.load_state_dict(stored.tensors)
    return detector.eval().to(device)


def read(path: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What a file or folder of weights holds, whoever wrote it."""
    folder = path.parent if path.name == "model.safetensors" else path
    if (folder / huggingface.CONFIG).is_file():
        return huggingface.read(folder, overrides)
    if torchvision.is_named(path):
        return torchvision.read_named(str(path), overrides)
    file = _file_of(path)
    match file.suffix:
        case ".pth" | ".pt":
            found = unpickle(file)
            layout = torchvision if torchvision.is_state(found) else official
            return layout.from_pickle(found, file, overrides)
        case _:
            return store.read(file, overrides)


def require_same_tensors(found: dict[str, Tensor], wanted: dict[str, Tensor], source: str) -> None:
    """Refuse tensors that differ from those wanted in name, shape, or in having real numbers."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing:
        raise DetrkitError(
            f"{source} lacks {len(missing)} tensors that its settings call for, such as '{missing[0]}'."
        )
    if extra:
        raise DetrkitError(
            f"{source} has {len(extra)} tensors that its settings do not know, such as '{extra[0]}'."
        )
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise DetrkitError(
                f"{source}: '{name}' has shape {tuple(tensor.shape)}, but its settings call for "
                f"{tuple(wanted[name].shape)}."
            )
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise DetrkitError(f"{source}: '{name}' has {tensor.dtype}, not {wanted[name].dtype}.")


def _file_of(path: Path) -> Path:
    if path.is_dir() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if path.is_dir():
        raise DetrkitError(f"{path} is a folder without a model.safetensors; name a run folder or a file.")
    if not path.is_file():
        raise DetrkitError(f"there is no file {path}.")
    return path
