"""A convolution and the frozen normalisation after it, computed as one convolution.

Frozen batch normalisation scales and shifts every channel by constants, so it can scale the convolution's
weights instead, and be its bias. The products of all pixels become those of the weights. Both modules keep
their parameters and names, so that checkpoints know nothing of it, and the weights can be trained.
"""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class FoldedNorm(FrozenBatchNorm2d):
    """The constants of a frozen normalisation, which the convolution before it applies."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The values as they are."""
        return x

    def scale_and_shift(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """What multiplies and what is added to every channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FoldedConv2d(nn.Module):
    """The convolution ``conv`` without a bias, and ``norm`` after it."""

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm) -> None:
        super().__init__()
        self.weight = conv.weight
        self._geometry: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self._norm = (norm,)  # in a tuple, since it is a module of its own elsewhere
        self.register_buffer("folded_weight", None, persistent=False)
        self.register_buffer("folded_bias", None, persistent=False)

    def forward(self, values: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """The convolved and normalised values."""
        if self.folded_weight is not None:
            return F.conv2d(values, self.folded_weight, self.folded_bias, *self._geometry)
        return F.conv2d(values, *self._fold(), *self._geometry)

    def freeze(self) -> None:
        """Fold once, for weights that will not change any more, and keep nothing else."""
        self.folded_weight, self.folded_bias = self._fold()
        self.register_parameter("weight", None)

    def _fold(self) -> tuple[Float[Tensor, "out in y x"], Float[Tensor, " out"]]:
        scale, shift = self._norm[0].scale_and_shift()
        return self.weight * scale[:, None, None, None], shift


def fold_norms(module: nn.Module) -> None:
    """Have every convolution inside, of those that a ``FoldedNorm`` follows, apply it."""
    for (name, conv), (_, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, FoldedNorm):
            setattr(module, name, FoldedConv2d(conv, norm))
    for child in module.children():
        fold_norms(child)
