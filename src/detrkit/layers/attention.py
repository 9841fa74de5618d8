"""Multi-head attention (Vaswani et al. 2017, section 3.2), and the weights that a layer attended with.

Fast kernels of attention do not keep their weights. ``attention_weights`` finds them anew, from what a
forward hook sees of a layer, so that no layer has a switch for them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from detrkit.layers.dropout import rectify_and_drop


class Projected(NamedTuple):
    """What an attention compares (queries and keys), what it gathers, and which keys a query may look at."""

    query: Float[Tensor, "B Q E"]
    key: Float[Tensor, "B S E"]
    value: Float[Tensor, "B S D"]
    allowed: Bool[Tensor, "#B #Q S"] | None

    def of(self, queries: Int[Tensor, " N"]) -> "Projected":
        """The same for some of the queries."""
        each = self.allowed is not None and self.allowed.shape[1] > 1
        allowed = self.allowed[:, queries] if self.allowed is not None and each else self.allowed
        return self._replace(query=self.query[:, queries], allowed=allowed)


@runtime_checkable
class Attends(Protocol):
    """A layer whose answer is ``output`` of what ``attend`` gathers from what it has projected."""

    heads: int
    output: nn.Linear

    @property
    def project(self) -> Callable[..., Projected]:
        """From the inputs of the layer to a ``Projected``."""
        ...


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


def attention_weights(
    layer: Attends,
    inputs: tuple[Any, ...],
    answer: Float[Tensor, "B Q D"],
    queries: Int[Tensor, " N"] | None = None,
) -> Float[Tensor, "B heads N S"]:
    """With which weights a layer gathered what it answered to these inputs, as a forward hook sees both.

    A query's weights add up to 1 in every head. They are those of ``queries``, or of all if None, and at
    least float32. The layer must not have dropped any of them, as in training; precision and autocast must be
    those of the answer.

    Raises:
        AssertionError: What these weights gather is not the layer's answer, to half of its format's digits.
    """
    projected = layer.project(*inputs)
    if queries is not None:
        projected, answer = projected.of(queries), answer[:, queries]
    exact = torch.promote_types(projected.query.dtype, torch.float32)
    query, key, value = (_split_heads(tokens, layer.heads).to(exact) for tokens in projected[:3])
    with torch.autocast(query.device.type, enabled=False):
        weights = _weigh(query, key, None if projected.allowed is None else projected.allowed[:, None])
        gathered = (weights @ value).transpose(1, 2).flatten(2).to(projected.value.dtype)
    size, apart = (part.to(exact).norm() for part in (answer, layer.output(gathered) - answer))
    assert apart <= size * torch.finfo(projected.value.dtype).eps ** 0.5, (
        f"{type(layer).__name__} answered otherwise than its weights say: {apart:.2g} of {size:.2g} apart"
    )
    return weights


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
        query, key, value, allowed = self.project(query, key, value, allowed)
        return self.output(attend(query, key, value, self.heads, allowed, dropout))

    def project(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B S D"],
        value: Float[Tensor, "B S D"],
        allowed: Bool[Tensor, "B #Q S"] | None = None,
    ) -> Projected:
        """What is compared and gathered."""
        return Projected(self.query(query), self.key(key), self.value(value), allowed)

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
    weights = _weigh(query, key, attn_mask)
    if dropout_p > 0:
        weights = rectify_and_drop(weights, dropout_p)  # none is below zero, and so no mask is kept
    return weights @ value


def _weigh(
    query: Float[Tensor, "B heads Q e"],
    key: Float[Tensor, "B heads S e"],
    allowed: Bool[Tensor, "#B 1 #Q S"] | None,
) -> Float[Tensor, "B heads Q S"]:
    similarity = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if allowed is not None:
        similarity = similarity.masked_fill(~allowed, -math.inf)
    return similarity.softmax(-1)


def _split_heads(tokens: Float[Tensor, "B S D"], heads: int) -> Float[Tensor, "B heads S d"]:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
