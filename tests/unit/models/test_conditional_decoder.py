import math

import pytest
import torch
from torch import Tensor, nn

from detrkit.layers.position import box_code
from detrkit.models.contracts import Memory
from detrkit.models.decoders.conditional import (
    ConditionalCrossAttention,
    ConditionalDecoder,
    PlacedSelfAttention,
)
from detrkit.models.heads import Heads
from detrkit.settings.model import ConditionalDecoderSettings, TransformerSettings

WIDTH, HEADS, QUERIES, LOGITS = 32, 4, 5, 3


def decoder(layers: int, **settings_of_its_own: float) -> ConditionalDecoder:
    torch.manual_seed(0)
    transformer = TransformerSettings(width=WIDTH, heads=HEADS, feedforward=48)
    settings = ConditionalDecoderSettings(layers=layers, queries=QUERIES, **settings_of_its_own)
    return ConditionalDecoder(settings, transformer, Heads(WIDTH, nn.Linear(WIDTH, LOGITS))).eval()


def memory(dtype: torch.dtype = torch.float32) -> Memory:
    generator = torch.Generator().manual_seed(0)
    tokens, position = torch.randn(2, 3, 7, WIDTH, generator=generator, dtype=dtype)
    return Memory(tokens, position, torch.arange(7) < torch.tensor([[7], [4], [1]]))


def in_heads(tokens: Tensor) -> Tensor:
    return tokens.unflatten(-1, (HEADS, -1))


@pytest.mark.parametrize("first", [True, False], ids=["first layer", "later layer"])
def test_content_and_place_are_compared_apart_and_their_similarities_added(first: bool) -> None:
    """Meng et al. 2021, section 3.2: the weight is content by content plus place by place, of every head."""
    torch.manual_seed(0)
    attention = ConditionalCrossAttention(WIDTH, HEADS, dropout=0.5, first=first).double().eval()
    seen = memory(torch.float64)
    hidden, place, gaze = torch.randn(3, 3, QUERIES, WIDTH, dtype=torch.float64)
    content, key = attention.query(hidden), attention.key(seen.tokens)
    where = attention.key_position(seen.position)
    if first:
        content, key = content + attention.query_place(place), key + where
    similarity = torch.einsum("bqhd,bshd->bhqs", in_heads(content), in_heads(key))
    similarity += torch.einsum("bqhd,bshd->bhqs", in_heads(attention.query_gaze(gaze)), in_heads(where))
    similarity /= math.sqrt(2 * WIDTH / HEADS)
    weights = similarity.masked_fill(~seen.valid[:, None, None], -torch.inf).softmax(-1)
    gathered = torch.einsum("bhqs,bshd->bqhd", weights, in_heads(attention.value(seen.tokens)))
    expected = attention.output(gathered.flatten(2))
    torch.testing.assert_close(attention(hidden, place, gaze, seen), expected, rtol=0, atol=1e-12)


def test_queries_are_compared_by_content_and_place_and_hand_on_content() -> None:
    torch.manual_seed(0)
    attention = PlacedSelfAttention(WIDTH, HEADS, dropout=0.5).double().eval()
    hidden, place = torch.randn(2, 3, QUERIES, WIDTH, dtype=torch.float64)
    allowed = torch.eye(QUERIES, dtype=torch.bool) | (torch.arange(QUERIES) < 3)
    query = attention.query(hidden) + attention.query_place(place)
    key = attention.key(hidden) + attention.key_place(place)
    similarity = torch.einsum("bqhd,bshd->bhqs", in_heads(query), in_heads(key)) / math.sqrt(WIDTH / HEADS)
    weights = similarity.masked_fill(~allowed, -torch.inf).softmax(-1)
    gathered = torch.einsum("bhqs,bshd->bqhd", weights, in_heads(attention.value(hidden)))
    expected = attention.output(gathered.flatten(2))
    found = attention(hidden, place, allowed[None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_every_layer_looks_around_the_same_point_in_the_light_of_what_it_holds() -> None:
    built, seen = decoder(3), memory()
    nn.init.xavier_uniform_(built.heads.boxes[-1].weight)
    queries = built.queries.expand(3, -1, -1)
    point = built.reference_point(queries)
    hidden = torch.zeros(3, QUERIES, WIDTH)
    output = built(seen)
    for number, layer in enumerate(built.layers):
        gaze = box_code(point.sigmoid(), WIDTH)
        if number > 0:
            gaze = gaze * built.modulate(hidden)
        hidden = layer(hidden, queries, gaze, seen)
        state = built.norm(hidden)
        offset = built.heads.boxes(state)
        centre = (offset[..., :2] + point).sigmoid()
        expected = torch.cat([centre, offset[..., 2:].sigmoid()], dim=-1)
        torch.testing.assert_close(output.boxes[number], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(output.logits[number], built.heads.classes(state), rtol=0, atol=1e-5)


def test_boxes_start_around_the_reference_point_with_half_the_images_size() -> None:
    built = decoder(2)
    boxes = built(memory()).boxes
    centre = built.reference_point(built.queries).sigmoid()
    expected = torch.cat([centre, torch.full_like(centre, 0.5)], dim=-1).expand(2, 3, -1, -1)
    torch.testing.assert_close(boxes, expected)
    assert centre.std() > 0.01


def test_reference_points_are_as_exact_under_autocast() -> None:
    built = decoder(2)
    with torch.autocast("cpu", torch.bfloat16):
        found = built(memory())
    assert torch.equal(found.boxes, built(memory()).boxes)


@pytest.mark.parametrize("temperature", [1e4, 20.0])
def test_reference_points_are_told_at_the_decoders_temperature(temperature: float) -> None:
    built, seen = decoder(1, temperature=temperature), memory()
    queries = built.queries.expand(3, -1, -1)
    gaze = box_code(built.reference_point(queries).sigmoid(), WIDTH, temperature)
    hidden = built.layers[0](torch.zeros(3, QUERIES, WIDTH), queries, gaze, seen)
    torch.testing.assert_close(built(seen).logits[0], built.heads.classes(built.norm(hidden)))


@pytest.mark.parametrize(("local_start", "least", "most"), [(True, 0.9, 1.0), (False, -0.6, 0.6)])
def test_with_a_local_start_a_query_looks_most_where_it_is(
    local_start: bool, least: float, most: float
) -> None:
    """A product of two codes through one random projection is, on average, their own; through two, none."""
    built = decoder(20, temperature=20.0, local_start=local_start)
    code = box_code(torch.rand(50, 2, generator=torch.Generator().manual_seed(0)), WIDTH, 20.0)
    attentions = [layer.cross_attention for layer in built.layers]
    found = sum(each.query_gaze(code) @ each.key_position(code).T for each in attentions)
    pairs = torch.stack([found.flatten(), (code @ code.T).flatten()])
    assert least < pairs.corrcoef()[0, 1] < most


def test_a_local_start_is_no_tie() -> None:
    built = decoder(2, local_start=True)
    for layer in built.layers:
        attention = layer.cross_attention
        assert attention.query_gaze.weight is not attention.key_position.weight


def test_only_the_first_layer_takes_the_place_for_content() -> None:
    built = decoder(3)
    projections = [layer.cross_attention.query_place for layer in built.layers]
    assert [projection is not None for projection in projections] == [True, False, False]


def test_attention_starts_without_a_bias_of_its_output() -> None:
    for layer in decoder(2).layers:
        for attention in (layer.self_attention, layer.cross_attention):
            assert not attention.output.bias.any()
