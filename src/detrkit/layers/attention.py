"""Multi-head attention (Vaswani et al. 2017, section 3.2)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detrkit.layers.dropout import rectify_and_drop


def attend(
    query: Float[Tensor, "B Q E"],
    key: Float[Tensor, "B S E"],
    value: Float[Tensor, "B S D"],
    heads: int,
    allowed: Bool[Tensor, "#B #Q S"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B Q D"]:
    """What each query gathers from the values, in ``heads`` independent slices of the width.

    ``allowed`` says which keys a query may look at; None allows all. Every query must be allowed one. In
    training, this share of the weights is dropped.
    """
    query, key, value = (_split_heads(tokens, heads) for tokens in (query, key, value))
    mask = None if allowed is None else allowed[:, None]
    # on CPUs, torch's kernel of attention has no fast bfloat16 and no dropout; matrix products have both
    in_steps = query.device.type == "cpu" and (query.dtype == torch.bfloat16 or dropout > 0)
    attention = _attend_in_steps if in_steps else F.scaled_dot_product_attention
    gathered = attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return gathered.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Attention between learned projections of queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self._initialise()

    def forward(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B S D"],
        value: Float[Tensor, "B S D"],
        allowed: Bool[Tensor, "B #Q S"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """What each query gathers from the values whose keys are ``allowed``."""
        dropout = self.dropout if self.training else 0.0
        query, key, value = self.query(query), self.key(key), self.value(value)
        return self.output(attend(query, key, value, self.heads, allowed, dropout))

    def _initialise(self) -> None:
        # DETR draws the three input projections as one Xavier matrix of 3 D x D, whose bound is
        # sqrt(6 / 4 D): that of a D x D matrix, divided by the square root of 2.
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.output.weight)
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.zeros_(projection.bias)


def _attend_in_steps(
    query: Float[Tensor, "B heads Q e"],
    key: Float[Tensor, "B heads S e"],
    value: Float[Tensor, "B heads S d"],
    attn_mask: Bool[Tensor, "#B 1 #Q S"] | None,
    dropout_p: float,
) -> Float[Tensor, "B heads Q d"]:
    weights = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if attn_mask is not None:
        weights = weights.masked_fill(~attn_mask, -math.inf)
    weights = weights.softmax(-1)
    if dropout_p > 0:
        weights = rectify_and_drop(weights, dropout_p)  # none is below zero, and so no mask is kept
    return weights @ value


def _split_heads(tokens: Float[Tensor, "B S D"], heads: int) -> Float[Tensor, "B heads S d"]:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
