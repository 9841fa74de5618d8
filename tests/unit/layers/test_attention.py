import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detrkit.layers.attention import Attention, attend, attention_weights

WIDTH, HEADS = 32, 4


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of three images."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 5, WIDTH, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 3, 7, WIDTH, generator=generator, dtype=torch.float64)
    return query, key, value


ALLOWED = torch.arange(7) < torch.tensor([[[7]], [[4]], [[1]]])
ALLOWED_PER_QUERY = (torch.arange(7) <= torch.arange(5)[:, None]).expand(3, -1, -1)


def torch_twin(attention: Attention) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    projections = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        twin.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    twin.out_proj.load_state_dict(attention.output.state_dict())
    return twin.eval()


def with_random_biases(attention: Attention) -> Attention:
    for projection in (attention.query, attention.key, attention.value, attention.output):
        nn.init.normal_(projection.bias)
    return attention


@pytest.mark.parametrize(
    "allowed", [None, ALLOWED, ALLOWED_PER_QUERY], ids=["all keys", "some keys", "some keys per query"]
)
def test_equals_torchs_attention(inputs: tuple[Tensor, Tensor, Tensor], allowed: Tensor | None) -> None:
    torch.manual_seed(0)
    attention = with_random_biases(Attention(WIDTH, HEADS, dropout=0.5)).double().eval()
    mask = None if allowed is None else ~allowed.expand(-1, 5, -1).repeat_interleave(HEADS, dim=0)
    expected, _ = torch_twin(attention)(*inputs, attn_mask=mask)
    torch.testing.assert_close(attention(*inputs, allowed), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "allowed", [None, ALLOWED, ALLOWED_PER_QUERY], ids=["all keys", "some keys", "some keys per query"]
)
def test_bfloat16_on_a_cpu_takes_the_same_weights(
    inputs: tuple[Tensor, Tensor, Tensor], allowed: Tensor | None
) -> None:
    query, key, value = (tokens.bfloat16() for tokens in inputs)
    split = [tokens.double().unflatten(-1, (HEADS, -1)).transpose(1, 2) for tokens in (query, key, value)]
    mask = None if allowed is None else allowed[:, None]
    expected = F.scaled_dot_product_attention(*split, attn_mask=mask).transpose(1, 2).flatten(2)
    found = attend(query, key, value, HEADS, allowed)
    assert found.dtype == torch.bfloat16
    # a few roundings to 8 bits of values of about 1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=4 * 2**-8)


def test_dropout_takes_out_weights_and_scales_the_rest() -> None:
    query, key = torch.zeros(2, 1, 1, 8, dtype=torch.bfloat16).unbind()
    query, key = query.expand(50, 4, 8), key.expand(50, 16, 8)
    values = torch.eye(16, dtype=torch.bfloat16).expand(50, 16, 16)
    torch.manual_seed(0)
    weights = attend(query, key, values, 1, dropout=0.25)
    # every weight is 1/16, and 1/12 or 0 where a quarter of them is dropped
    assert set(weights.unique().tolist()) == {0.0, torch.tensor(1 / 12).bfloat16().item()}
    assert (weights == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_values_may_be_wider_than_queries_and_keys(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value = inputs
    query, key = query[..., :8], key[..., :8]
    found = attend(query, key, value, HEADS, ALLOWED)
    for head in range(HEADS):
        narrow, wide = slice(2 * head, 2 * head + 2), slice(8 * head, 8 * head + 8)
        similarity = query[..., narrow] @ key[..., narrow].transpose(1, 2) / math.sqrt(2)
        weights = similarity.masked_fill(~ALLOWED, -torch.inf).softmax(-1)
        torch.testing.assert_close(found[..., wide], weights @ value[..., wide], rtol=0, atol=1e-12)


def test_keys_that_are_not_allowed_have_no_influence_at_all(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value = (tokens.float() for tokens in inputs)
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS, dropout=0.0)
    clean = attention(query, key, value, ALLOWED)
    junk = 1e4 * torch.randn_like(key)
    valid = ALLOWED.transpose(1, 2)
    spoiled_key, spoiled_value = (torch.where(valid, tokens, junk) for tokens in (key, value))
    assert torch.equal(attention(query, spoiled_key, spoiled_value, ALLOWED), clean)
    assert not torch.allclose(attention(query, spoiled_key, spoiled_value), attention(query, key, value))


def test_projections_start_as_one_stacked_xavier_matrix() -> None:
    torch.manual_seed(0)
    attention, twin = Attention(256, 8, dropout=0.0), nn.MultiheadAttention(256, 8)
    nn.init.xavier_uniform_(twin.in_proj_weight)
    bound = math.sqrt(6 / (4 * 256))
    assert twin.in_proj_weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    for projection in (attention.query, attention.key, attention.value):
        assert projection.weight.abs().max() <= bound
        assert projection.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert projection.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert attention.output.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (2 * 256)), rel=1e-3)
    for projection in (attention.query, attention.key, attention.value, attention.output):
        assert not projection.bias.any()


def test_attention_weights_are_dropped_in_training_only(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS, dropout=0.5).double()
    assert not torch.equal(attention(*inputs), attention(*inputs))
    attention.eval()
    assert torch.equal(attention(*inputs), attention(*inputs))


def test_a_query_that_matches_one_key_gathers_its_value() -> None:
    key = 100 * F.one_hot(torch.arange(4), 8).double()[None]
    value = torch.randn(1, 4, 8, dtype=torch.float64)
    query = key[:, [2, 0]]
    torch.testing.assert_close(attend(query, key, value, heads=1), value[:, [2, 0]])


@pytest.mark.parametrize(
    "allowed", [None, ALLOWED, ALLOWED_PER_QUERY], ids=["all keys", "some keys", "some keys per query"]
)
def test_the_weights_of_a_layer_are_those_of_torchs_attention(
    inputs: tuple[Tensor, Tensor, Tensor], allowed: Tensor | None
) -> None:
    torch.manual_seed(0)
    attention = with_random_biases(Attention(WIDTH, HEADS, dropout=0.5)).double().eval()
    mask = None if allowed is None else ~allowed.expand(-1, 5, -1).repeat_interleave(HEADS, dim=0)
    _, expected = torch_twin(attention)(*inputs, attn_mask=mask, average_attn_weights=False)
    found = attention_weights(attention, (*inputs, allowed), attention(*inputs, allowed))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    some = attention_weights(attention, (*inputs, allowed), attention(*inputs, allowed), torch.tensor([3, 1]))
    torch.testing.assert_close(some, expected[:, :, [3, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_that_do_not_make_the_answer_are_refused(
    inputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS, dropout=0.5).to(dtype).eval()
    query, key, value = (tokens.to(dtype) for tokens in inputs)
    answer = attention(query, key, value)
    assert attention_weights(attention, (query, key, value), answer).dtype == torch.promote_types(
        dtype, torch.float32
    )
    for other in (attention(query, key, value, ALLOWED), attention(query, key, value.flip(1)), answer * 1.1):
        with pytest.raises(AssertionError, match="Attention answered otherwise than its weights say"):
            attention_weights(attention, (query, key, value), other)


def test_weights_of_an_answer_with_dropout_are_refused(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    attention = Attention(WIDTH, HEADS, dropout=0.5).double()
    with pytest.raises(AssertionError):
        attention_weights(attention, inputs, attention(*inputs))
