"""DETR's encoder: self-attention over the cells of the feature map (Carion et al. 2020, section 3.2)."""

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detrkit.layers.attention import Attention
from detrkit.layers.feedforward import FeedForward, Residual, perceptron
from detrkit.layers.position import LearnedPosition, SinePosition
from detrkit.models.contracts import FeatureMap, Memory
from detrkit.settings.model import EncoderSettings, TransformerSettings


class Encoder(nn.Module):
    """Projects every level's cells to the transformer's width and lets all of them see each other."""

    def __init__(
        self, settings: EncoderSettings, transformer: TransformerSettings, in_channels: list[int]
    ) -> None:
        super().__init__()
        width = transformer.width
        self.project = nn.ModuleList(nn.Conv2d(channels, width, kernel_size=1) for channels in in_channels)
        self.position = _position(settings, width)
        self.modulate = perceptron(width, width, width) if settings.modulate_position else None
        self.layers = nn.ModuleList(EncoderLayer(transformer) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width) if transformer.pre_norm else nn.Identity()

    def forward(self, features: list[FeatureMap]) -> Memory:
        """The memory of all levels, one after the other."""
        memory = self._flatten(features)
        tokens = memory.tokens
        for layer in self.layers:
            scale = 1.0 if self.modulate is None else self.modulate(tokens)
            tokens = layer(tokens, memory.position * scale, memory.valid)
        return memory._replace(tokens=self.norm(tokens))

    def _flatten(self, features: list[FeatureMap]) -> Memory:
        tokens, position, valid = [], [], []
        for project, level in zip(self.project, features, strict=True):
            tokens.append(project(level.values).flatten(2).transpose(1, 2))
            position.append(self._position_of(level).flatten(1, 2))
            if level.valid is not None:
                valid.append(level.valid.flatten(1))
        return Memory(torch.cat(tokens, 1), torch.cat(position, 1), torch.cat(valid, 1) if valid else None)

    def _position_of(self, level: FeatureMap) -> Float[Tensor, "#B h w D"]:
        if level.valid is not None:
            return self.position(level.valid, level.values.dtype)
        return self.position.everywhere(level.values)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network."""

    def __init__(self, transformer: TransformerSettings) -> None:
        super().__init__()
        width, dropout = transformer.width, transformer.dropout
        self.attention = Attention(width, transformer.heads, dropout)
        self.feedforward = FeedForward(width, transformer.feedforward, dropout, transformer.activation)
        self.after_attention = Residual(width, dropout, transformer.pre_norm)
        self.after_feedforward = Residual(width, dropout, transformer.pre_norm)

    def forward(
        self,
        tokens: Float[Tensor, "B S D"],
        position: Float[Tensor, "#B S D"],
        valid: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B S D"]:
        """The tokens after each has looked at the valid ones. Positions steer where, not what."""
        allowed = None if valid is None else valid[:, None]

        def look(tokens: Tensor) -> Tensor:
            placed = tokens + position
            return self.attention(placed, placed, tokens, allowed)

        return self.after_feedforward(self.after_attention(tokens, look), self.feedforward)


def _position(settings: EncoderSettings, width: int) -> SinePosition | LearnedPosition:
    match settings.position:
        case "sine":
            return SinePosition(width, settings.temperature)
        case "learned":
            return LearnedPosition(width)
        case _:
            assert_never(settings.position)
