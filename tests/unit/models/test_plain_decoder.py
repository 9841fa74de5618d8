import pytest
import torch
from torch import Tensor, nn

from detrkit.models.contracts import Memory
from detrkit.models.decoders.plain import PlainDecoder
from detrkit.models.heads import Heads
from detrkit.settings.model import PlainDecoderSettings, TransformerSettings

WIDTH, QUERIES, LOGITS = 32, 5, 4


def heads(width: int) -> Heads:
    return Heads(width, nn.Linear(width, LOGITS))


def decoder(layers: int, pre_norm: bool = False) -> PlainDecoder:
    torch.manual_seed(0)
    transformer = TransformerSettings(width=WIDTH, heads=4, feedforward=48, pre_norm=pre_norm)
    built = PlainDecoder(
        PlainDecoderSettings(layers=layers, queries=QUERIES),
        transformer,
        heads(WIDTH),
    )
    for name, parameter in built.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return built.eval()


def memory() -> Memory:
    generator = torch.Generator().manual_seed(0)
    tokens, position = torch.randn(2, 3, 7, WIDTH, generator=generator)
    return Memory(tokens, position, torch.arange(7) < torch.tensor([[7], [4], [1]]))


def post_norm_layers(built: PlainDecoder, seen: Memory) -> list[Tensor]:
    """The hidden states after each layer as the original's ``forward_post`` writes them."""
    queries = built.queries.expand(3, -1, -1)
    hidden, states = torch.zeros(3, QUERIES, WIDTH), []
    for layer in built.layers:
        placed = hidden + queries
        hidden = layer.after_self_attention.norm(hidden + layer.self_attention(placed, placed, hidden))
        keys = seen.tokens + seen.position
        looked = layer.cross_attention(hidden + queries, keys, seen.tokens, seen.valid[:, None])
        hidden = layer.after_cross_attention.norm(hidden + looked)
        hidden = layer.after_feedforward.norm(hidden + layer.feedforward(hidden))
        states.append(hidden)
    return states


def pre_norm_layers(built: PlainDecoder, seen: Memory) -> list[Tensor]:
    """The hidden states after each layer as the original's ``forward_pre`` writes them."""
    queries = built.queries.expand(3, -1, -1)
    hidden, states = torch.zeros(3, QUERIES, WIDTH), []
    for layer in built.layers:
        calm = layer.after_self_attention.norm(hidden)
        hidden = hidden + layer.self_attention(calm + queries, calm + queries, calm)
        calm = layer.after_cross_attention.norm(hidden)
        keys = seen.tokens + seen.position
        hidden = hidden + layer.cross_attention(calm + queries, keys, seen.tokens, seen.valid[:, None])
        hidden = hidden + layer.feedforward(layer.after_feedforward.norm(hidden))
        states.append(hidden)
    return states


@pytest.mark.parametrize(
    ("pre_norm", "by_hand"), [(False, post_norm_layers), (True, pre_norm_layers)], ids=["post", "pre"]
)
def test_every_layers_normalised_state_goes_through_the_same_heads(pre_norm: bool, by_hand) -> None:
    built, seen = decoder(2, pre_norm), memory()
    output = built(seen)
    assert output.logits.shape == (2, 3, QUERIES, LOGITS)
    assert output.denoised is None
    for layer, state in enumerate(by_hand(built, seen)):
        logits, boxes = built.heads(built.norm(state))
        torch.testing.assert_close(output.logits[layer], logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(output.boxes[layer], boxes, rtol=0, atol=1e-5)


def test_queries_start_as_unit_normals() -> None:
    torch.manual_seed(0)
    built = PlainDecoder(PlainDecoderSettings(layers=1, queries=100), TransformerSettings(), heads(256))
    assert built.queries.shape == (built.num_queries, 256) == (100, 256)
    assert built.queries.mean().item() == pytest.approx(0, abs=0.03)
    assert built.queries.std().item() == pytest.approx(1, abs=0.03)
