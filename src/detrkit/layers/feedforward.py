"""The two other halves of a transformer layer: the feed-forward network and the residual branch."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU and dropout between them, for every token alike."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(widen, nn.ReLU(), nn.Dropout(dropout), narrow)
        for linear in (widen, narrow):
            nn.init.xavier_uniform_(linear.weight)


class Residual(nn.Module):
    """Adds what a branch makes of the tokens to the tokens, and normalises.

    After the sum as in Vaswani et al. 2017 or, with ``pre_norm``, before the branch.
    """

    def __init__(self, width: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(
        self, tokens: Float[Tensor, "B S D"], branch: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "B S D"]:
        """``norm(tokens + branch(tokens))``, or ``tokens + branch(norm(tokens))`` with ``pre_norm``."""
        if self.pre_norm:
            return tokens + self.dropout(branch(self.norm(tokens)))
        return self.norm(tokens + self.dropout(branch(tokens)))
