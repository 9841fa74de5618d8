"""What every decoder promises. A new one adds its settings to ``DECODERS``, and no test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from detrkit.catalog import Catalog, Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.evaluation.coco import evaluate_results, to_results
from detrkit.inference.frozen import frozen
from detrkit.models.contracts import FeatureMap, Memory
from detrkit.models.detr import Detr, build_detr
from detrkit.objective.criterion import Criterion, count_totals
from detrkit.scoring import Scoring, build_scoring
from detrkit.settings.experiment import Experiment, parse
from detrkit.structures import DetrOutput, Images, Objects

FOCAL = {"scoring": {"kind": "focal"}}
DAB = {"transformer": {"activation": "prelu"}, "encoder": {"temperature": 20, "modulate_position": True}}
DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pre-norm": {"transformer": {"pre_norm": True}},
    "conditional": {"decoder": {"kind": "conditional"}} | FOCAL,
    "anchor": {"decoder": {"kind": "anchor"}} | DAB | FOCAL,
    "denoising": {"decoder": {"kind": "anchor", "denoising": {"groups": 2}}} | DAB | FOCAL,
    "contrastive": {
        "decoder": {"kind": "anchor", "groups": 2, "denoising": {"groups": 1, "negatives": True}}
    },
}
"""What is particular in the settings of each decoder."""

CLASSES, LAYERS, QUERIES, WIDTH = 3, 2, 5, 32
SIDE, STEPS = 64, 250


@pytest.fixture(scope="module", params=DECODERS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    particular = DECODERS[request.param]
    model = {
        "backbone": {"name": "resnet18", "weights": "none"},
        "transformer": {"width": WIDTH, "heads": 4, "feedforward": 64, "dropout": 0.0},
        "encoder": {"layers": 1},
        "decoder": {"layers": LAYERS, "queries": QUERIES},
    }
    model = {part: settings | particular.get(part, {}) for part, settings in model.items()}
    return parse({"model": model, "scoring": particular.get("scoring", {})}, "the test")


@pytest.fixture(scope="module")
def scoring(experiment: Experiment) -> Scoring:
    return build_scoring(experiment.scoring)


@pytest.fixture(scope="module")
def network(experiment: Experiment, scoring: Scoring) -> Detr:
    """One whose boxes are not all at their references, as after some training."""
    torch.manual_seed(0)
    built = build_detr(experiment.model, scoring, CLASSES).eval()
    nn.init.xavier_uniform_(built.decoder.heads.boxes[-1].weight)
    return built


@pytest.fixture
def memory() -> Memory:
    """The memory of three images, of which two are padded."""
    generator = torch.Generator().manual_seed(0)
    tokens, position = torch.randn(2, 3, 12, WIDTH, generator=generator)
    return Memory(tokens, position, torch.arange(12) < torch.tensor([[12], [7], [1]]))


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """torch.export cannot look into jaxtyping's checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_layer_answers_once_per_query(network: Detr, memory: Memory, scoring: Scoring) -> None:
    output = network.decoder(memory)
    assert network.decoder.num_queries == QUERIES
    assert output.logits.shape == (LAYERS, 3, QUERIES, scoring.num_logits(CLASSES))
    assert output.boxes.shape == (LAYERS, 3, QUERIES, 4)
    assert ((output.boxes > 0) & (output.boxes < 1)).all()
    assert output.denoised is None
    assert output.groups is None


def test_answers_follow_their_queries(network: Detr, memory: Memory) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        expected = network.decoder(memory)
        queries = getattr(network.decoder, "queries" if hasattr(network.decoder, "queries") else "anchors")
        queries.copy_(queries[order].clone())
        found = network.decoder(memory)
        queries.copy_(queries[order.argsort()].clone())
    torch.testing.assert_close(found.logits, expected.logits[:, :, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes[:, :, order], rtol=0, atol=1e-5)
    assert not torch.allclose(found.logits, expected.logits, atol=1e-3)


def test_an_image_is_answered_alike_alone_and_among_others(network: Detr, memory: Memory) -> None:
    with torch.no_grad():
        whole = network.decoder(memory)
        for image in range(3):
            alone = network.decoder(Memory(*(part[image, None] for part in memory)))
            torch.testing.assert_close(alone.logits[:, 0], whole.logits[:, image], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.boxes[:, 0], whole.boxes[:, image], rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["tokens", "position"])
def test_what_lies_in_padding_changes_no_answer(network: Detr, memory: Memory, part: str) -> None:
    clean = getattr(memory, part)
    junk = torch.where(memory.valid[..., None], clean, 1e4 * torch.randn_like(clean))
    with torch.no_grad():
        found = network.decoder(memory._replace(**{part: junk}))
        expected = network.decoder(memory)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.boxes, expected.boxes)


def test_every_part_of_the_memory_counts(network: Detr, memory: Memory) -> None:
    with torch.no_grad():
        expected = network.decoder(memory)
        for part in ("tokens", "position"):
            changed = network.decoder(memory._replace(**{part: getattr(memory, part).flip(1)}))
            assert not torch.allclose(changed.logits, expected.logits, atol=1e-3)


@pytest.mark.parametrize("counts", [(2, 7), (1, 0), (0, 0)], ids=["objects", "some without", "none"])
def test_every_trainable_parameter_gets_a_finite_gradient(
    experiment: Experiment,
    scoring: Scoring,
    network: Detr,
    noise: Callable,
    objects_at_random: Callable,
    counts: tuple[int, int],
) -> None:
    criterion = Criterion(scoring, experiment.matching, experiment.loss)
    truth = objects_at_random(*counts, num_classes=CLASSES)
    network.train()
    network.zero_grad(set_to_none=True)
    output = network(noise((64, 64), (48, 64)), truth)
    criterion(output, truth, count_totals(truth, QUERIES)).total.backward()
    network.eval()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    heads = network.decoder.heads
    moved = {
        name: bool(part.weight.grad.any())
        for name, part in (("class", heads.classes), ("box", heads.boxes[4]))
    }
    assert moved == {"class": True, "box": any(counts)}


def test_bfloat16_answers_are_close_to_float32s(network: Detr, noise: Callable) -> None:
    images = noise((96, 128), (64, 128))
    with torch.no_grad():
        expected = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(images)
    assert found.logits.dtype == found.boxes.dtype == torch.float32
    assert (found.logits - expected.logits).abs().max() < 0.1 * expected.logits.std()
    assert not torch.equal(found.logits, expected.logits)


@pytest.mark.parametrize("sizes", [[(96, 128), (64, 128)], [(96, 128)] * 2], ids=["padded", "unpadded"])
def test_a_frozen_copy_answers_alike(
    experiment: Experiment, noise: Callable, sizes: list[tuple[int, int]]
) -> None:
    images = noise(*sizes)
    images = images._replace(valid=None) if images.valid.all() else images
    torch.manual_seed(0)
    detector = build_detector(experiment, tuple(Category(each, f"{each}") for each in range(CLASSES))).eval()
    network = detector.network
    nn.init.xavier_uniform_(network.decoder.heads.boxes[-1].weight)
    with torch.no_grad():
        exact, found = network(images), frozen(detector, "fp32").network(images)
        torch.testing.assert_close(found.logits, exact.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.boxes, exact.boxes, rtol=0, atol=1e-5)
        half = frozen(detector, "bf16").network
        with torch.autocast("cpu", torch.bfloat16):
            rounded, found = network(images), half(images)
    for name in ("logits", "boxes"):
        rounding = (getattr(rounded, name) - getattr(exact, name)).norm()
        assert getattr(found, name).dtype == torch.float32
        assert (getattr(found, name) - getattr(exact, name)).norm() < 2 * rounding


@pytest.fixture(scope="module")
def two_images() -> tuple[Images, Catalog]:
    """Two images with two rectangles each, which have the colours of their classes."""
    corners = np.array([[4, 6, 30, 28], [36, 34, 60, 58], [8, 30, 26, 60], [30, 4, 58, 24]])
    labels, offsets = np.array([0, 1, 2, 0]), np.array([0, 2, 4])
    pixels = torch.zeros(2, 3, SIDE, SIDE)
    for image in range(2):
        for row in range(offsets[image], offsets[image + 1]):
            left, top, right, bottom = corners[row]
            pixels[image, labels[row], top:bottom, left:right] = 2.0
    catalog = Catalog(
        source=Path("drawn"),
        folder=Path("drawn"),
        categories=tuple(Category(number, f"class {number}") for number in range(CLASSES)),
        image_ids=np.arange(2),
        file_names=np.array(["0.png", "1.png"]),
        widths=np.full(2, SIDE),
        heights=np.full(2, SIDE),
        offsets=offsets,
        annotation_ids=np.arange(1, 5),
        boxes=corners.astype(np.float64),
        labels=labels,
        areas=(corners[:, 2:] - corners[:, :2]).prod(1).astype(np.float64),
        crowds=np.zeros(4, dtype=bool),
    )
    return Images(pixels, torch.ones(2, SIDE, SIDE, dtype=torch.bool)), catalog


def objects_of(catalog: Catalog) -> list[Objects]:
    boxes = box_convert(torch.from_numpy(catalog.boxes).float() / SIDE, "xyxy", "cxcywh")
    labels = torch.from_numpy(catalog.labels)
    return [Objects(boxes[catalog.rows(image)], labels[catalog.rows(image)]) for image in range(2)]


def average_precision(detector: Detector, images: Images, catalog: Catalog) -> float:
    """COCO's AP at IoU 0.5."""
    detector.eval()
    with torch.no_grad():
        found = detector.detect(images, [(SIDE, SIDE)] * 2)
    results = [entry for image in range(2) for entry in to_results(catalog, image, found[image])]
    return evaluate_results(catalog, results).AP50


def test_two_images_are_learned_by_heart(experiment: Experiment, two_images: tuple[Images, Catalog]) -> None:
    """From the features of a random, frozen backbone, which need to be computed only once."""
    images, catalog = two_images
    larger = {
        "model.backbone.levels": ["layer2"],
        "model.backbone.frozen_stages": 5,
        "model.transformer.width": 64,
        "model.transformer.feedforward": 128,
    }
    torch.manual_seed(0)
    detector = build_detector(
        parse(experiment.model_dump(exclude_none=True, mode="json"), "the test", larger), catalog.categories
    )
    network, truth = detector.network, objects_of(catalog)
    features, totals = network.backbone(images), count_totals(truth, QUERIES)
    trainable = [*network.encoder.parameters(), *network.decoder.parameters()]
    optimizer = torch.optim.AdamW(trainable, lr=2e-3, weight_decay=0.0, fused=True)
    assert average_precision(detector, images, catalog) < 0.5
    detector.train()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, step / 10) * (0.1 if step > 0.8 * STEPS else 1.0)
        optimizer.zero_grad()
        output = network.decoder(network.encoder(features), truth)
        detector.criterion(output, truth, totals).total.backward()
        nn.utils.clip_grad_norm_(trainable, 0.1)
        optimizer.step()
    assert average_precision(detector, images, catalog) == pytest.approx(1)


class Transformer(nn.Module):
    """Encoder and decoder of a network, to be exported without its slow backbone."""

    def __init__(self, network: Detr) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        output: DetrOutput = self.decoder(self.encoder([FeatureMap(values, valid)]))
        return output.logits, output.boxes


@pytest.mark.usefixtures("without_shape_checks")
def test_an_exported_network_answers_alike_for_any_batch_and_size(network: Detr) -> None:
    any_size = torch.export.Dim.AUTO
    shapes = {0: any_size, 2: any_size, 3: any_size}, {0: any_size, 1: any_size, 2: any_size}
    transformer = Transformer(network)
    exported = torch.export.export(transformer, feature_map(2, 3, 4), dynamic_shapes=shapes).module()
    for size in ((3, 5, 2), (2, 8, 11)):
        with torch.no_grad():
            for found, expected in zip(
                exported(*feature_map(*size)), transformer(*feature_map(*size)), strict=True
            ):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def feature_map(images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Features of a ResNet-18 of images, the first of which is padded."""
    generator = torch.Generator().manual_seed(height)
    valid = torch.ones(images, height, width, dtype=torch.bool)
    valid[0, :, width - 1 :] = False
    return torch.randn(images, 512, height, width, generator=generator), valid
