"""Multiply-adds are counted as on paper, and as in the papers."""

import numpy as np
import pytest
import torch
from torch import nn

from detrkit.benchmark.multiply_adds import detection_multiply_adds, multiply_adds
from detrkit.catalog import Catalog
from detrkit.detectors.build import build_detector
from detrkit.layers.attention import Attention
from detrkit.settings.experiment import recipe
from detrkit.weights.coco import COCO_91


def test_a_convolution_multiplies_every_filter_with_every_place() -> None:
    layer, image = nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False), torch.zeros(2, 3, 16, 24)
    assert multiply_adds(lambda: layer(image)) == 2 * (8 * 12) * 8 * (3 * 5 * 5)


def test_groups_of_a_convolution_see_their_channels_alone() -> None:
    layer, image = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), torch.zeros(1, 8, 10, 10)
    assert multiply_adds(lambda: layer(image)) == 100 * 8 * 9


def test_a_linear_layer_multiplies_inputs_with_outputs() -> None:
    layer, tokens = nn.Linear(7, 5), torch.zeros(2, 3, 7)
    assert multiply_adds(lambda: layer(tokens)) == 2 * 3 * 7 * 5


def test_attention_has_four_projections_and_two_products_whichever_kernel_computes_it() -> None:
    width, heads, queries, keys = 32, 4, 6, 10
    layer = Attention(width, heads, 0.0).eval()
    query, memory = torch.zeros(2, queries, width), torch.zeros(2, keys, width)
    projections = 2 * width * width * (2 * queries + 2 * keys)
    products = 2 * 2 * queries * keys * width
    with torch.no_grad():
        assert multiply_adds(lambda: layer(query, memory, memory)) == projections + products


def test_what_has_no_products_counts_nothing() -> None:
    image = torch.zeros(1, 4, 8, 8)
    assert multiply_adds(lambda: nn.functional.max_pool2d(image.relu(), 2).softmax(1)) == 0


def test_a_small_detr_costs_what_adds_up_on_paper(one_image: Catalog, small_detr: dict[str, object]) -> None:
    experiment = recipe("detr_r50", small_detr | {"model.encoder.layers": 2, "model.decoder.layers": 3})
    detector = build_detector(experiment, one_image.categories).eval()
    height, width = 64, 96
    assert detection_multiply_adds(detector, one_image, (height, width)) == on_paper(
        height,
        width,
        encoder=2,
        decoder=3,
        queries=5,
        dim=32,
        hidden=64,
        logits=len(one_image.categories) + 1,
    )


def on_paper(
    height: int, width: int, *, encoder: int, decoder: int, queries: int, dim: int, hidden: int, logits: int
) -> int:
    """A DETR with ResNet-18 (He et al. 2016, table 1; Carion et al. 2020, figure 10), term by term."""
    places = height * width
    stem = places // 4 * 64 * 3 * 49
    stages = 0
    for stage, channels in enumerate((64, 128, 256, 512)):
        cells = places >> (4 + 2 * stage)
        before = channels if stage == 0 else channels // 2
        stages += cells * channels * 9 * (before + 3 * channels)
        stages += 0 if stage == 0 else cells * channels * before
    tokens = places // 1024
    attention = lambda q, k: 2 * dim * dim * (q + k) + 2 * q * k * dim  # noqa: E731
    feedforward = lambda q: 2 * q * dim * hidden  # noqa: E731
    encoding = tokens * 512 * dim + encoder * (attention(tokens, tokens) + feedforward(tokens))
    decoding = decoder * (attention(queries, queries) + attention(queries, tokens) + feedforward(queries))
    heads = decoder * queries * (dim * logits + 2 * dim * dim + 4 * dim)
    return stem + stages + encoding + decoding + heads


@pytest.mark.long
@pytest.mark.parametrize(("name", "published"), [("detr_r50", 86e9), ("detr_r101", 152e9)])
def test_detr_costs_what_is_published(one_image: Catalog, name: str, published: float) -> None:
    """Carion et al. 2020, table 1, at the mean size of COCO's images there."""
    detector = build_detector(recipe(name), COCO_91).eval()
    found = detection_multiply_adds(detector, one_image, (800, 1137))
    assert np.isclose(found, published, rtol=0.05)
