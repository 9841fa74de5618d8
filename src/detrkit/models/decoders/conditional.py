"""Conditional DETR's decoder (Meng et al. 2021, "Conditional DETR for Fast Training Convergence").

A query of DETR must find the place to look at and recognise what is there with one dot product. Here the
two are apart: what a query holds is compared with what a token holds, and where the query looks, around a
reference point of its own, with where the token lies.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detrkit.layers.attention import Projected, attend
from detrkit.layers.feedforward import FeedForward, Residual, linear, perceptron
from detrkit.layers.known import Known
from detrkit.layers.position import box_code
from detrkit.models.contracts import Memory
from detrkit.models.heads import Heads
from detrkit.settings.model import ConditionalDecoderSettings, TransformerSettings
from detrkit.structures import DetrOutput, Objects


class ConditionalDecoder(nn.Module):
    """Learned object queries, each of which looks around a reference point that follows from it."""

    def __init__(
        self, settings: ConditionalDecoderSettings, transformer: TransformerSettings, heads: Heads
    ) -> None:
        super().__init__()
        width = transformer.width
        self.num_queries = settings.queries
        self.temperature = settings.temperature
        self.queries = nn.Parameter(torch.randn(settings.queries, width))
        self.reference_point = perceptron(width, width, 2)
        self.modulate = perceptron(width, width, width)
        self.layers = nn.ModuleList(
            ConditionalDecoderLayer(transformer, first=number == 0) for number in range(settings.layers)
        )
        if settings.local_start:
            start_locally(self.layers)
        self.norm = nn.LayerNorm(width)
        self.heads = heads
        heads.start_at_reference()

    def forward(self, memory: Memory, objects: list[Objects] | None = None) -> DetrOutput:
        """The answers of all layers; the true ``objects`` are not used."""
        queries = self.queries.expand(memory.tokens.shape[0], -1, -1)
        # as exact as the heads, whose boxes it moves
        with torch.autocast(queries.device.type, enabled=False):
            reference = self.reference_point(queries)
        code = box_code(reference.sigmoid(), queries.shape[-1], self.temperature)
        hidden = torch.zeros_like(queries)
        states = []
        for number, layer in enumerate(self.layers):
            gaze = code * self.modulate(hidden) if number else code
            hidden = layer(hidden, queries, gaze, memory)
            states.append(self.norm(hidden))
        return DetrOutput(*self.heads(torch.stack(states), F.pad(reference, (0, 2))[None]))

    def freeze(self) -> None:
        """Find once for all images where the queries look, and what they first see in each other."""
        queries = self.queries[None]
        self.add_module("reference_point", Known(self.reference_point(queries)))
        consult_once(self.layers[0], queries)


class ConditionalDecoderLayer(nn.Module):
    """A layer of decoders whose queries have a place, shared by Conditional DETR and DAB-DETR."""

    def __init__(self, transformer: TransformerSettings, first: bool) -> None:
        super().__init__()
        width, heads, dropout = transformer.width, transformer.heads, transformer.dropout
        self.self_attention = PlacedSelfAttention(width, heads, dropout)
        self.cross_attention = ConditionalCrossAttention(width, heads, dropout, first)
        self.feedforward = FeedForward(width, transformer.feedforward, dropout, transformer.activation)
        self.after_self_attention = Residual(width, dropout, transformer.pre_norm)
        self.after_cross_attention = Residual(width, dropout, transformer.pre_norm)
        self.after_feedforward = Residual(width, dropout, transformer.pre_norm)

    def forward(
        self,
        hidden: Float[Tensor, "B Q D"],
        place: Float[Tensor, "B Q D"],
        gaze: Float[Tensor, "B Q D"],
        memory: Memory,
        allowed: Bool[Tensor, "#B Q Q"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """The hidden states of the queries after this layer.

        ``place`` says which query this is, ``gaze`` where in the image it looks, in the terms of
        ``memory.position``. Queries see the other queries that are ``allowed``; None allows all.
        """
        hidden = self.after_self_attention(hidden, lambda tokens: self.self_attention(tokens, place, allowed))
        hidden = self.after_cross_attention(
            hidden, lambda tokens: self.cross_attention(tokens, place, gaze, memory)
        )
        return self.after_feedforward(hidden, self.feedforward)


class PlacedSelfAttention(nn.Module):
    """Attention among the queries, with projections of their own for content and place."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.query_place = linear(width, width), linear(width, width)
        self.key, self.key_place = linear(width, width), linear(width, width)
        self.value, self.output = linear(width, width), linear(width, width)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        hidden: Float[Tensor, "B Q D"],
        place: Float[Tensor, "B Q D"],
        allowed: Bool[Tensor, "#B Q Q"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """What each query gathers from the ``allowed`` others."""
        dropout = self.dropout if self.training else 0.0
        query, key, value, allowed = self.project(hidden, place, allowed)
        return self.output(attend(query, key, value, self.heads, allowed, dropout))

    def project(
        self,
        hidden: Float[Tensor, "B Q D"],
        place: Float[Tensor, "B Q D"],
        allowed: Bool[Tensor, "#B Q Q"] | None,
    ) -> Projected:
        """What is compared, content and place added up, and what is gathered."""
        query = self.query(hidden) + self.query_place(place)
        key = self.key(hidden) + self.key_place(place)
        return Projected(query, key, self.value(hidden), allowed)


class ConditionalCrossAttention(nn.Module):
    """Attention to the memory whose every head weighs content in one half and place in the other.

    In the ``first`` layer, where the queries hold nothing yet, their place counts as content too.
    """

    def __init__(self, width: int, heads: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query, self.query_gaze = linear(width, width), linear(width, width)
        self.query_place = linear(width, width) if first else None
        self.key, self.key_position = linear(width, width), linear(width, width)
        self.value, self.output = linear(width, width), linear(width, width)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        hidden: Float[Tensor, "B Q D"],
        place: Float[Tensor, "B Q D"],
        gaze: Float[Tensor, "B Q D"],
        memory: Memory,
    ) -> Float[Tensor, "B Q D"]:
        """What each query gathers from the valid tokens."""
        dropout = self.dropout if self.training else 0.0
        query, key, value, allowed = self.project(hidden, place, gaze, memory)
        return self.output(attend(query, key, value, self.heads, allowed, dropout))

    def project(
        self,
        hidden: Float[Tensor, "B Q D"],
        place: Float[Tensor, "B Q D"],
        gaze: Float[Tensor, "B Q D"],
        memory: Memory,
    ) -> Projected:
        """What is compared, content and place side by side in every head, and what is gathered."""
        query, key = self.query(hidden), self.key(memory.tokens)
        position = self.key_position(memory.position)
        if self.query_place is not None:
            query, key = query + self.query_place(place), key + position
        query = self._side_by_side(query, self.query_gaze(gaze))
        key = self._side_by_side(key, position)
        return Projected(query, key, self.value(memory.tokens), memory.allowed)

    def _side_by_side(
        self, content: Float[Tensor, "B S D"], place: Float[Tensor, "#B S D"]
    ) -> Float[Tensor, "B S E"]:
        """The two in every head's slice, ``E = 2 D``."""
        halves = [part.unflatten(-1, (self.heads, -1)) for part in (content, place.expand_as(content))]
        return torch.cat(halves, dim=-1).flatten(2)


def consult_once(first: nn.Module, place: Float[Tensor, "1 Q D"]) -> None:
    """Let the queries of the first layer, which hold nothing yet, see each other once for all images."""
    assert isinstance(first, ConditionalDecoderLayer)
    nothing = torch.zeros_like(place)
    seen = first.after_self_attention(nothing, lambda tokens: first.self_attention(tokens, place, None))
    first.add_module("after_self_attention", Known(seen))


def start_locally(layers: nn.ModuleList) -> None:
    """Make every layer project where a query looks as it projects where a token lies.

    The dot product of two codes of the same sines is largest where the places are equal, and a random
    projection of both keeps that. So the attention starts around a query's reference, which it otherwise
    has to learn first.
    """
    for layer in layers:
        attention = layer.get_submodule("cross_attention")
        projections = attention.get_submodule("query_gaze"), attention.get_submodule("key_position")
        projections[0].load_state_dict(projections[1].state_dict())
