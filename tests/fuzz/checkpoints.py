"""Complete checkpoints in every layout, each of some hundred kilobytes, for readers to start from."""

import json
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.models.classical import build_classical
from detrkit.models.detr import build_detr
from detrkit.scoring import Scoring
from detrkit.settings.classical import ClassicalSettings
from detrkit.settings.experiment import recipe
from detrkit.settings.model import DetrSettings
from detrkit.weights import huggingface, official, store
from detrkit.weights.rename import from_stored
from detrkit.weights.store import Stored

KINDS = {"detr": "detr_r50", "conditional_detr": "conditional_r50", "dab-detr": "dab_dn_r50"}
"""The kinds of detectors that transformers has too, each with a recipe for it."""

_SMALL: dict[str, object] = {
    "model.backbone.name": "resnet18",
    "model.transformer.width": 32,
    "model.transformer.heads": 4,
    "model.transformer.feedforward": 48,
    "model.encoder.layers": 1,
    "model.decoder.layers": 1,
    "model.decoder.queries": 5,
}
_CATEGORIES = (Category(0, "N/A", used=False), Category(1, "cat"), Category(7, "dog"))


@contextmanager
def narrowed() -> Iterator[None]:
    """Networks are built with every 64 channels or more of a tensor divided by 32, and of zeros.

    So a ResNet-18 has a thousandth of its numbers. All tensors are there, and what is narrower (the layers of
    the transformer, the classes) is as wide as settings say. Such networks compute nothing.
    """
    with ExitStack() as stack:
        for module in ("detrkit.weights.rename", "detrkit.detectors.build"):
            stack.enter_context(patch(f"{module}.build_detr", _narrow_detr))
        for module in ("detrkit.weights.torchvision", "detrkit.detectors.torchvision"):
            stack.enter_context(patch(f"{module}.build_classical", _narrow_classical))
        yield


_built: OrderedDict[str, nn.Module] = OrderedDict()


def _narrow_detr(settings: DetrSettings, scoring: Scoring, num_classes: int) -> nn.Module:
    """The same network again where it was just built, since nobody changes more of it than its numbers."""
    key = repr((settings, type(scoring), num_classes))
    if key not in _built:
        with torch.device("meta"):
            network = build_detr(settings, scoring, num_classes)
        _built[key] = _narrow(network)
    if len(_built) > 20:
        _built.popitem(last=False)
    return _built[key]


def _narrow_classical(settings: ClassicalSettings, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        network = build_classical(settings, num_classes)
    return _narrow(network)


def _narrow(network: nn.Module) -> nn.Module:
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            held |= {name: _narrow_tensor(tensor) for name, tensor in held.items() if tensor is not None}
    return network


def _narrow_tensor(tensor: Tensor) -> Tensor:
    shape = [side // 32 if side >= 64 else side for side in tensor.shape]
    narrow = torch.zeros(shape, dtype=tensor.dtype, device="cpu")
    return nn.Parameter(narrow, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else narrow


@narrowed()
def write_ours(folder: Path) -> None:
    """A file of detrkit's own."""
    stored = _stored("dab_dn_r50")
    store.write(folder / "some.safetensors", stored.tensors, stored.experiment, stored.categories)


@narrowed()
def write_original(folder: Path) -> None:
    """What the original release would write, in both of torch's layouts, and what detrkit writes for it."""
    stored = _stored("detr_r50")
    official.write(folder / "ours.pth", stored)
    arguments = Namespace(nheads=4, dilation=False, dropout=0.1, lr=1e-4, output_dir="")
    content = {"model": from_stored(stored, official.layout), "args": arguments, "epoch": 3}
    torch.save(content, folder / "some.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)


@narrowed()
def write_torchvision(folder: Path) -> None:
    """A state dict of torchvision's, and a checkpoint of its training script."""
    torch.save(_classical("faster_rcnn_r50"), folder / "faster_rcnn.pth")
    torch.save({"model": _classical("ssd300_vgg16"), "epoch": 3}, folder / "ssd.pth")


@narrowed()
def write_transformers(folder: Path) -> None:
    """A folder of each kind with its tensors in two files, and ``noted``, which tells detrkit's settings."""
    huggingface.write(folder / "noted", _stored("detr_r50"))
    for kind, name in KINDS.items():
        huggingface.write(folder / kind, _stored(name))
        _divide(folder / kind)


def _divide(folder: Path) -> None:
    """Put the tensors of such a folder into two files, which say no more of them."""
    whole = folder / "model.safetensors"
    tensors, _ = store.read_tensors(whole)
    whole.unlink()
    files = {name: ("one", "two")[place % 2] + ".safetensors" for place, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"weight_map": files, "metadata": {"size": 8}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _stored(name: str) -> Stored:
    """The smallest detector of a recipe of DETR's family."""
    experiment = recipe(name, _SMALL | ({"model.decoder.denoising.groups": 0} if "dab" in name else {}))
    tensors = build_detector(experiment, _CATEGORIES).state_dict()
    return Stored(experiment, _CATEGORIES, {name: tensor.half() for name, tensor in tensors.items()})


def _classical(name: str) -> dict[str, Tensor]:
    """The tensors of a classical detector under torchvision's names."""
    overrides = {"model.backbone.name": "resnet18"} if "rcnn" in name else {}
    tensors = build_detector(recipe(name, overrides), _CATEGORIES).state_dict()
    return {name.removeprefix("network."): tensor.half() for name, tensor in tensors.items()}
