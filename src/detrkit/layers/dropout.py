"""Dropout (Srivastava et al. 2014) that is cheap on a CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int16
from torch import Tensor, nn

_LEVELS = 2**16


def drop(values: Float[Tensor, "*N"], probability: float) -> Float[Tensor, "*N"]:
    """The values, each zero with this probability, and the others scaled up to keep the mean.

    On a CPU, drawing the random numbers is what costs. There, four of them come from one number of 64 bits,
    so that the probability is rounded to 1 / 65536.
    """
    if probability == 0.0 or values.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(values, probability)
    dropped = round(probability * _LEVELS)
    kept = torch.ge(_draw(values.shape), dropped - _LEVELS // 2, out=torch.empty_like(values))
    return values * kept.mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Module):
    """Dropout while training."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """The values with some of them dropped, in training."""
        return drop(values, self.probability) if self.training else values


def _draw(shape: torch.Size) -> Int16[Tensor, "*N"]:
    """Numbers of 16 bits, every one as probable as any other."""
    size = shape.numel()
    words = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[:size].view(shape)
