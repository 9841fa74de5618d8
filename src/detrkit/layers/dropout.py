"""Dropout (Srivastava et al. 2014) that is cheap on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_LEVELS = 2**16


def drop(values: Float[Tensor, "*N"], probability: float) -> Float[Tensor, "*N"]:
    """The values, each zero with this probability, and the others scaled up to keep the mean.

    On a CPU, drawing the random numbers is what costs. There, four of them come from one number of 64 bits,
    so that the probability is rounded to 1 / 65536.
    """
    if _by_torch(values, probability):
        return F.dropout(values, probability)
    return values * _draw(values, probability)


def rectify_and_drop(values: Float[Tensor, "*N"], probability: float) -> Float[Tensor, "*N"]:
    """``drop`` of the values above zero, and zero for the others: a ReLU and dropout in one.

    On a CPU, nothing is kept for the backward pass but the result, which says where gradients pass.
    """
    if _by_torch(values, probability):
        return F.dropout(values.relu(), probability)
    return _RectifyAndDrop.apply(values, probability)


class Dropout(nn.Module):
    """Dropout while training; of the values above zero alone if it is to ``rectify`` them."""

    def __init__(self, probability: float, rectify: bool = False) -> None:
        super().__init__()
        self.probability = probability
        self.rectify = rectify

    def forward(self, values: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """The values with some of them dropped, in training."""
        probability = self.probability if self.training else 0.0
        return rectify_and_drop(values, probability) if self.rectify else drop(values, probability)


class _RectifyAndDrop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        result = _draw(values, probability).mul_(values).clamp_min_(0)
        ctx.save_for_backward(result)
        ctx.probability = probability
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (result,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(gradient, result, 0)
        return passed.mul_(_scale(ctx.probability)), None


def _by_torch(values: Tensor, probability: float) -> bool:
    return probability == 0.0 or values.device.type != "cpu" or torch.compiler.is_compiling()


def _draw(like: Float[Tensor, "*N"], probability: float) -> Float[Tensor, "*N"]:
    """Zero with this probability, and otherwise what keeps the mean at 1."""
    size = like.numel()
    words = torch.empty(-(-size // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[:size].view(like.shape)
    kept = torch.ge(numbers, _dropped(probability) - _LEVELS // 2, out=torch.empty_like(like))
    return kept.mul_(_scale(probability))


def _dropped(probability: float) -> int:
    return round(probability * _LEVELS)


def _scale(probability: float) -> float:
    return _LEVELS / (_LEVELS - _dropped(probability))
