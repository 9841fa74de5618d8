"""The two other halves of a transformer layer: the feed-forward network and the residual branch."""

from collections.abc import Callable
from itertools import pairwise
from typing import assert_never

from jaxtyping import Float
from torch import Tensor, nn

from detrkit.layers.dropout import Dropout
from detrkit.settings.model import Activation


def linear(width: int, out_width: int) -> nn.Linear:
    """A linear layer with Xavier's initial weights, as DETR's descendants draw all of their transformers'."""
    layer = nn.Linear(width, out_width)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers between these widths, with a ReLU between each two."""
    layers = [linear(before, after) for before, after in pairwise(widths)]
    return nn.Sequential(*(part for layer in layers[:-1] for part in (layer, nn.ReLU())), layers[-1])


class FeedForward(nn.Sequential):
    """Two linear layers with an activation and dropout between them, for every token alike."""

    def __init__(self, width: int, hidden: int, dropout: float, activation: Activation = "relu") -> None:
        super().__init__(linear(width, hidden), *_between(activation, dropout), linear(hidden, width))


class Residual(nn.Module):
    """Adds what a branch makes of the tokens to the tokens, and normalises.

    After the sum as in Vaswani et al. 2017 or, with ``pre_norm``, before the branch.
    """

    def __init__(self, width: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(
        self, tokens: Float[Tensor, "B S D"], branch: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B S D"]:
        """``norm(tokens + branch(tokens))``, or ``tokens + branch(norm(tokens))`` with ``pre_norm``."""
        if self.pre_norm:
            return tokens + self.dropout(branch(self.norm(tokens)))
        return self.norm(tokens + self.dropout(branch(tokens)))


def _between(activation: Activation, dropout: float) -> tuple[nn.Module, nn.Module]:
    """The activation, and the dropout after it."""
    match activation:
        case "relu":
            return nn.Identity(), Dropout(dropout, rectify=True)
        case "prelu":
            return nn.PReLU(), Dropout(dropout)
        case _:
            assert_never(activation)
