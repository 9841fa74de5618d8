import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from detrkit.layers.position import LearnedPosition, SinePosition
from detrkit.models.contracts import FeatureMap
from detrkit.models.encoder import Encoder
from detrkit.settings.model import EncoderSettings, TransformerSettings

WIDTH = 32


def encoder(layers: int, channels: list[int], pre_norm: bool = False, position: str = "sine") -> Encoder:
    torch.manual_seed(0)
    transformer = TransformerSettings(width=WIDTH, heads=4, feedforward=48, pre_norm=pre_norm)
    built = Encoder(EncoderSettings(layers=layers, position=position), transformer, channels)
    for name, parameter in built.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return built.eval()


def feature_map(channels: int, height: int, width: int) -> FeatureMap:
    """Two images, the second of which is padded."""
    generator = torch.Generator().manual_seed(channels)
    valid = torch.ones(2, height, width, dtype=torch.bool)
    valid[1, :, width // 2 :] = False
    valid[1, height - 1 :] = False
    return FeatureMap(torch.randn(2, channels, height, width, generator=generator), valid)


def test_levels_are_projected_and_laid_one_after_the_other_row_by_row() -> None:
    built = encoder(0, [8, 16])
    levels = [feature_map(8, 4, 6), feature_map(16, 2, 3)]
    memory = built(levels)
    assert memory.tokens.shape == memory.position.shape == (2, 24 + 6, WIDTH)
    start = 0
    for project, level in zip(built.project, levels, strict=True):
        weight, bias = project.weight[:, :, 0, 0], project.bias
        sine = SinePosition(WIDTH, 1e4)(level.valid, torch.float32)
        _, _, height, width = level.values.shape
        for row in range(height):
            for column in range(width):
                token = start + row * width + column
                expected = level.values[:, :, row, column] @ weight.T + bias
                torch.testing.assert_close(memory.tokens[:, token], expected, rtol=0, atol=1e-5)
                assert torch.equal(memory.position[:, token], sine[:, row, column])
                assert torch.equal(memory.valid[:, token], level.valid[:, row, column])
        start += height * width


def test_tokens_see_each_other_where_positions_steer_and_values_do_not_carry_them() -> None:
    built, level = encoder(1, [8]), feature_map(8, 3, 4)
    tokens, position, valid = encoder(0, [8])([level])
    (layer,) = built.layers
    seen = layer.attention(tokens + position, tokens + position, tokens, valid[:, None])
    tokens = layer.after_attention.norm(tokens + seen)
    tokens = layer.after_feedforward.norm(tokens + layer.feedforward(tokens))
    torch.testing.assert_close(built([level]).tokens, tokens, rtol=0, atol=1e-5)


def test_with_pre_norm_branches_see_normalised_tokens_and_the_memory_is_normalised() -> None:
    built, level = encoder(1, [8], pre_norm=True), feature_map(8, 3, 4)
    (layer,) = built.layers
    projected = built.project[0](level.values).flatten(2).transpose(1, 2)
    _, position, valid = encoder(0, [8])([level])
    seen = layer.after_attention.norm(projected)
    tokens = projected + layer.attention(seen + position, seen + position, seen, valid[:, None])
    tokens = tokens + layer.feedforward(layer.after_feedforward.norm(tokens))
    torch.testing.assert_close(built([level]).tokens, built.norm(tokens), rtol=0, atol=1e-5)
    assert isinstance(built.norm, nn.LayerNorm)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_what_lies_in_padded_cells_changes_no_valid_token(pre_norm: bool) -> None:
    built = encoder(2, [8, 16], pre_norm)
    levels = [feature_map(8, 4, 6), feature_map(16, 2, 3)]
    clean = built(levels)
    spoiled = built([FeatureMap(junk_outside(level), level.valid) for level in levels])
    assert torch.equal(spoiled.tokens[clean.valid], clean.tokens[clean.valid])
    assert not torch.equal(spoiled.tokens[~clean.valid], clean.tokens[~clean.valid])
    assert torch.equal(spoiled.valid, clean.valid)
    assert torch.equal(spoiled.position, clean.position)


def junk_outside(level: FeatureMap) -> Tensor:
    return torch.where(level.valid[:, None], level.values, 1e4 * torch.randn_like(level.values))


def test_positions_may_be_learned() -> None:
    built, level = encoder(0, [8], position="learned"), feature_map(8, 3, 4)
    assert isinstance(built.position, LearnedPosition)
    assert torch.equal(built([level]).position, built.position(level.valid, torch.float32).flatten(1, 2))


def test_dropout_is_drawn_in_training_only() -> None:
    built, level = encoder(1, [8]), feature_map(8, 3, 4)
    assert torch.equal(built([level]).tokens, built([level]).tokens)
    built.train()
    assert not torch.equal(built([level]).tokens, built([level]).tokens)


def test_an_encoder_exported_without_padding_takes_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.export cannot look into jaxtyping's checks
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    built, any_size = Unpadded(encoder(1, [8])), torch.export.Dim.AUTO
    built(feature_map(8, 4, 6).values)  # the code of this size is remembered now
    exported = torch.export.export(
        built, (feature_map(8, 4, 6).values,), dynamic_shapes=({2: any_size, 3: any_size},)
    ).module()
    for size in ((4, 6), (3, 5)):
        values = feature_map(8, *size).values
        torch.testing.assert_close(exported(values), built(values), rtol=0, atol=1e-5)


class Unpadded(nn.Module):
    """An encoder of whole images."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: Tensor) -> Tensor:
        memory = self.encoder([FeatureMap(values)])
        return memory.tokens + memory.position
