"""Maps of attention for every kind of detector; which weights are right, the parity tests say."""

import pytest
import torch
from torch import Tensor, nn

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.inference.attention import cross_attention, encoder_attention, watch
from detrkit.inference.precision import Precision
from detrkit.inference.predictor import Predictor
from detrkit.settings.experiment import recipe

SIZE = {"data.short_sides": [64], "data.eval_short_side": 64, "data.max_size": 128}
KINDS = {
    "plain": {"model.decoder.kind": "plain"},
    "pre-norm": {"model.decoder.kind": "plain", "model.transformer.pre_norm": True},
    "conditional": {"model.decoder.kind": "conditional"},
    "anchor": {
        "model.decoder.kind": "anchor",
        "model.decoder.groups": 2,
        "model.decoder.denoising.groups": 2,
        "model.encoder.modulate_position": True,
        "scoring.kind": "focal",
    },
    "three levels": {"model.backbone.levels": ["layer2", "layer3", "layer4"]},
    "dilated": {"model.backbone.name": "resnet50", "model.backbone.dilation": True},
}
LEVELS = {"three levels": [(8, 12), (4, 6), (2, 3)], "dilated": [(4, 6)]}


def build(small_detr: dict, kind: str) -> DetrDetector:
    torch.manual_seed(0)
    settings = small_detr | SIZE | KINDS[kind]
    built = build_detector(recipe("detr_r50", settings), (Category(1, "cat"), Category(2, "dog")))
    assert isinstance(built, DetrDetector)
    return built


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_head_spreads_all_of_its_attention_over_the_levels(
    small_detr: dict, image: Tensor, kind: str, precision: Precision
) -> None:
    levels = LEVELS.get(kind, [(2, 3)])
    watched = watch(build(small_detr, kind), image, precision)
    assert watched.levels == levels
    for maps in (
        cross_attention(watched, [4, 0, 4]),
        cross_attention(watched, [1, 2, 3], layer=0),
        encoder_attention(watched, [(0.0, 0.0), (0.5, 0.2), (1.0, 1.0)]),
    ):
        assert [tuple(level.shape) for level in maps] == [(3, 4, *level) for level in levels]
        total = torch.stack([level.sum((2, 3)) for level in maps]).sum(0)
        torch.testing.assert_close(total, torch.ones(3, 4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "anchor"])
def test_answers_are_those_of_a_prediction_and_come_from_the_queries_named(
    small_detr: dict, image: Tensor, kind: str
) -> None:
    detector = build(small_detr, kind)
    watched = watch(detector, image)
    [expected] = Predictor(detector, threshold=0.0)([image])
    for found, wanted in zip(watched.detections, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)
    torch.testing.assert_close(watched.boxes[watched.queries], watched.detections.boxes, rtol=0, atol=1e-4)


def test_a_query_that_looks_at_one_cell_has_its_map_there(small_detr: dict, image: Tensor) -> None:
    """The memory is made to be all alike but for one cell, which every query is made to prefer."""
    detector = build(small_detr, "plain")
    cell = torch.tensor([[0.0, 0, 0], [0, 1, 0]])  # row 1, column 1
    tokens = cell.flatten()[None, :, None].expand(1, 6, 32)
    detector.network.encoder.register_forward_hook(
        lambda module, inputs, memory: memory._replace(tokens=tokens, position=torch.zeros(1, 6, 32))
    )
    attention = detector.network.get_submodule("decoder.layers.1.cross_attention")
    for name, bias in (("query", 1.0), ("key", 0.0)):
        projection = attention.get_submodule(name)
        assert isinstance(projection, nn.Linear)
        nn.init.zeros_(projection.weight) if name == "query" else nn.init.eye_(projection.weight)
        nn.init.constant_(projection.bias, bias)
    [maps] = cross_attention(watch(detector, image), [0, 3])
    # in a head of 8 numbers, the similarity is 8 / sqrt(8) there and 0 elsewhere
    there, elsewhere = torch.tensor(8**0.5).exp(), 5
    expected = torch.where(cell > 0, there, 1.0) / (there + elsewhere)
    torch.testing.assert_close(maps, expected.expand(2, 4, -1, -1))


def test_a_point_is_the_token_of_its_cell_on_its_level(small_detr: dict, image: Tensor) -> None:
    detector = build(small_detr, "three levels")
    watched = watch(detector, image)
    call = watched.encoder[-1]
    tokens = 96 + 24 + torch.tensor([0, 5, 4])  # beyond 8 x 12 and 4 x 6 cells, of 2 x 3
    placed, _, values, _ = call.inputs
    layer = call.module
    assert values.shape[1] == 126
    with torch.no_grad():
        query, key = (
            project(placed.clone()).unflatten(-1, (4, -1)).transpose(1, 2)
            for project in (layer.query, layer.key)
        )
        weights = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1)[0][:, tokens].transpose(0, 1)
    points = [(0.1, 0.1), (0.9, 0.9), (0.5, 1.0)]
    found = torch.cat([part.flatten(2) for part in encoder_attention(watched, points, level=2)], dim=-1)
    torch.testing.assert_close(found, weights, rtol=0, atol=1e-5)


def test_hooks_are_gone_whatever_happens(small_detr: dict, image: Tensor) -> None:
    detector = build(small_detr, "plain")

    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in detector.modules())

    watch(detector, image)
    assert hooks() == 0

    def break_down(*_: object) -> None:
        raise RuntimeError("broken")

    detector.network.decoder.heads.forward = break_down  # pyright: ignore
    with pytest.raises(RuntimeError, match="broken"):
        watch(detector, image)
    assert hooks() == 0


def test_a_detector_in_training_is_watched_in_evaluation_and_left_in_training(
    small_detr: dict, image: Tensor
) -> None:
    detector = build(small_detr | {"model.transformer.dropout": 0.5}, "plain").train()
    first, second = (cross_attention(watch(detector, image), [0])[0] for _ in range(2))
    assert torch.equal(first, second)
    assert detector.network.encoder.training


def test_what_is_not_there_is_refused(small_detr: dict, image: Tensor) -> None:
    watched = watch(build(small_detr, "plain"), image)
    with pytest.raises(DetrkitError, match="there is no query 5: the decoder has 5, counted from 0"):
        cross_attention(watched, [5])
    with pytest.raises(DetrkitError, match="there is no layer 2: the decoder has 2"):
        cross_attention(watched, [0], layer=2)
    with pytest.raises(DetrkitError, match="outside the image"):
        encoder_attention(watched, [(1.2, 0.5)])
    with pytest.raises(DetrkitError, match="there is no level 1"):
        encoder_attention(watched, [(0.5, 0.5)], level=1)
    none = watch(build(small_detr | {"model.encoder.layers": 0}, "plain"), image)
    with pytest.raises(DetrkitError, match="there is no layer -1: the encoder has 0"):
        encoder_attention(none, [(0.5, 0.5)])
