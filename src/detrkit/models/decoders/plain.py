"""DETR's decoder: learned object queries that look at the memory (Carion et al. 2020, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detrkit.layers.attention import Attention
from detrkit.layers.feedforward import FeedForward, Residual
from detrkit.layers.known import Known
from detrkit.models.contracts import Memory
from detrkit.models.heads import Heads
from detrkit.settings.model import PlainDecoderSettings, TransformerSettings
from detrkit.structures import DetrOutput, Objects


class PlainDecoder(nn.Module):
    """Every layer lets the queries see each other, then the memory; all layers share the heads."""

    def __init__(
        self, settings: PlainDecoderSettings, transformer: TransformerSettings, heads: Heads
    ) -> None:
        super().__init__()
        width = transformer.width
        self.num_queries = settings.queries
        self.queries = nn.Parameter(torch.randn(settings.queries, width))
        self.layers = nn.ModuleList(PlainDecoderLayer(transformer) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.heads = heads

    def forward(self, memory: Memory, objects: list[Objects] | None = None) -> DetrOutput:
        """The answers of all layers; the true ``objects`` are not used."""
        queries = self.queries.expand(memory.tokens.shape[0], -1, -1)
        hidden = torch.zeros_like(queries)
        states = []
        for layer in self.layers:
            hidden = layer(hidden, queries, memory)
            states.append(self.norm(hidden))
        return DetrOutput(*self.heads(torch.stack(states)))

    def freeze(self) -> None:
        """Let the first layer's queries, which hold nothing yet, consult each other once for all images."""
        first, queries = self.layers[0], self.queries[None]
        assert isinstance(first, PlainDecoderLayer)
        known = Known(first.consult_each_other(torch.zeros_like(queries), queries))
        first.add_module("after_self_attention", known)


class PlainDecoderLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the memory, and a feed-forward network."""

    def __init__(self, transformer: TransformerSettings) -> None:
        super().__init__()
        width, heads, dropout = transformer.width, transformer.heads, transformer.dropout
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.feedforward = FeedForward(width, transformer.feedforward, dropout, transformer.activation)
        self.after_self_attention = Residual(width, dropout, transformer.pre_norm)
        self.after_cross_attention = Residual(width, dropout, transformer.pre_norm)
        self.after_feedforward = Residual(width, dropout, transformer.pre_norm)

    def forward(
        self, hidden: Float[Tensor, "B Q D"], queries: Float[Tensor, "B Q D"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """The hidden states of the queries after this layer. ``queries`` steer where they look."""
        hidden = self.consult_each_other(hidden, queries)
        hidden = self.look_at_image(hidden, queries, memory)
        return self.after_feedforward(hidden, self.feedforward)

    def consult_each_other(
        self, hidden: Float[Tensor, "B Q D"], queries: Float[Tensor, "B Q D"]
    ) -> Float[Tensor, "B Q D"]:
        """The hidden states after the self-attention."""

        def look(hidden: Tensor) -> Tensor:
            placed = hidden + queries
            return self.self_attention(placed, placed, hidden)

        return self.after_self_attention(hidden, look)

    def look_at_image(
        self, hidden: Float[Tensor, "B Q D"], queries: Float[Tensor, "B Q D"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """The hidden states after the cross-attention."""

        def look(hidden: Tensor) -> Tensor:
            keys = memory.tokens + memory.position
            return self.cross_attention(hidden + queries, keys, memory.tokens, memory.allowed)

        return self.after_cross_attention(hidden, look)
