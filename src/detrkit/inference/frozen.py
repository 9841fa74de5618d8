"""A detector whose weights will not change any more, and what that saves."""

from copy import deepcopy
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from detrkit.detectors.detector import Detector
from detrkit.inference.precision import Precision, product_dtype
from detrkit.layers.folded import FoldedConv2d
from detrkit.models.heads import Heads


@runtime_checkable
class Freezes(Protocol):
    """A module that can find once what follows from its weights alone; from then on it only evaluates."""

    def freeze(self) -> None:
        """Find it, and use it from now on."""
        ...


def frozen(detector: Detector, precision: Precision) -> Detector:
    """A copy that answers as the detector does now, in less time. It can be neither trained nor saved.

    Frozen normalisation is folded into the convolutions, what the decoder's queries do before they see an
    image is done, and weights lie in the format that ``precision`` multiplies in, those of convolutions
    channels last. The copy needs memory for the weights once more, or half of that in ``bf16`` and ``fp16``.

    Raises:
        DetrkitError: The device does not compute in this precision.
    """
    dtype = product_dtype(next(detector.parameters(), torch.empty(0)).device.type, precision)
    # deepcopy would take gradients along
    weights = {
        id(weight): nn.Parameter(weight.detach().clone(), requires_grad=False)
        for weight in detector.parameters()
    }
    copied = deepcopy(detector, weights).eval()
    with torch.no_grad():
        for module in [module for module in copied.modules() if isinstance(module, Freezes)]:
            module.freeze()
    _store(copied, dtype)
    return copied


def _store(module: nn.Module, dtype: torch.dtype | None) -> None:
    """Lay out the weights as products take them, but for the heads, which compute in their own format."""
    if isinstance(module, nn.Conv2d | nn.Linear | FoldedConv2d):
        module.to(memory_format=torch.channels_last).to(dtype=dtype)
    for child in module.children():
        if not isinstance(child, Heads):
            _store(child, dtype)
