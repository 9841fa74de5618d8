"""What every detector promises, whatever is inside. A new one adds its settings, and no test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import NotFiniteError
from detrkit.inference import detect as inference
from detrkit.inference.frozen import frozen
from detrkit.inference.load import load
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import Experiment, parse
from detrkit.structures import Images, Objects
from detrkit.weights import store

CATEGORIES = tuple(Category(10 * number, f"class {number}") for number in range(1, 4))
RESNET = {"backbone": {"name": "resnet18", "weights": "none"}}
DETR = RESNET | {
    "transformer": {"width": 32, "heads": 4, "feedforward": 64, "dropout": 0.0},
    "encoder": {"layers": 1},
}
FOCAL = {"kind": "focal"}
ANCHORS = {"anchors": [8, 16, 24, 32, 48]}
DETECTORS: dict[str, dict[str, Any]] = {
    "plain": {"model": DETR | {"decoder": {"layers": 2, "queries": 5}}},
    "conditional": {
        "model": DETR | {"decoder": {"kind": "conditional", "layers": 2, "queries": 5}},
        "scoring": FOCAL,
    },
    "denoising": {
        "model": DETR
        | {"decoder": {"kind": "anchor", "layers": 2, "queries": 5, "denoising": {"groups": 2}}},
        "scoring": FOCAL,
    },
    "faster_rcnn": {"model": {"kind": "faster_rcnn"} | ANCHORS | RESNET},
    "faster_rcnn_v2": {"model": {"kind": "faster_rcnn", "version": 2} | ANCHORS | RESNET},
    "retinanet": {"model": {"kind": "retinanet", "score_threshold": 0.005} | ANCHORS | RESNET},
    "retinanet_v2": {
        "model": {"kind": "retinanet", "version": 2, "score_threshold": 0.005} | ANCHORS | RESNET
    },
    "fcos": {"model": {"kind": "fcos", "score_threshold": 0.05} | RESNET},
    "ssd300": {"model": {"kind": "ssd300", "backbone": {"weights": "none", "frozen_stages": 4}}},
    "ssdlite320": {"model": {"kind": "ssdlite320", "backbone": {"norm": "group"}}},
}
"""What is particular in the settings of each detector."""

Sizes = list[tuple[int, int]]
"""(height, width) of images."""


def build(experiment: Experiment, seed: int = 0) -> Detector:
    """With few proposals, where there are any, since their number changes nothing but the time."""
    torch.manual_seed(seed)
    detector = build_detector(experiment, CATEGORIES)
    network = detector.get_submodule("network")
    if hasattr(network, "rpn"):
        network.rpn._post_nms_top_n = {"training": 16, "testing": 8}
        network.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    return detector


@pytest.fixture(scope="module", params=DETECTORS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return parse(DETECTORS[request.param] | {"data": {"short_sides": [64], "max_size": 64}}, "the test")


@pytest.fixture(scope="module")
def detector(experiment: Experiment) -> Detector:
    return build(experiment)


@pytest.fixture
def sizes(experiment: Experiment) -> Sizes:
    """Two images, each of which is padded; one where they are padded to 300 x 300, which takes long."""
    return [(64, 48), (40, 64)][: 1 if experiment.model.kind == "ssd300" else 2]


@pytest.fixture
def images(noise: Callable[..., Images], sizes: Sizes) -> Images:
    return noise(*sizes)


def step(detector: Detector, images: Images, objects: list[Objects], seed: int = 0) -> Tensor:
    """The loss, after its gradients have been found."""
    torch.manual_seed(seed)
    objects = objects[: len(images.pixels)]
    detector.train().zero_grad(set_to_none=True)
    report = detector(images, objects, count_totals(objects, detector.max_objects))
    assert all(len(term) >= 1 and torch.isfinite(term).all() for term in report.terms.values())
    report.total.backward()
    return report.total.detach()


def detect(detector: Detector, images: Images, sizes: list[tuple[int, int]]) -> list[Any]:
    detector.eval()
    with torch.no_grad():
        return detector.detect(images, sizes)


def test_the_loss_falls(experiment: Experiment, images: Images, objects_at_random: Callable) -> None:
    detector = build(experiment)
    objects = objects_at_random(2, 1, num_classes=3)
    rate, steps = {"detr": (1e-3, 20), "ssd300": (3e-4, 4)}.get(experiment.model.kind, (3e-4, 10))
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=rate, fused=True)
    losses = []
    for number in range(steps):
        losses.append(step(detector, images, objects, number).item())
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("counts", [(2, 0), (0, 0)], ids=["some", "none"])
def test_images_without_objects_survive(
    detector: Detector, images: Images, objects_at_random: Callable, counts: tuple[int, int]
) -> None:
    assert torch.isfinite(step(detector, images, objects_at_random(*counts, num_classes=3)))
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_detections_are_in_the_original_images_pixels(
    detector: Detector, images: Images, sizes: Sizes
) -> None:
    small = detect(detector, images, sizes)
    large = detect(detector, images, [(3 * height, 2 * width) for height, width in sizes])
    assert sum(len(found.scores) for found in small) > 0
    for found, stretched, (height, width) in zip(small, large, sizes, strict=True):
        torch.testing.assert_close(stretched.boxes, found.boxes * torch.tensor([2, 3, 2, 3]))
        assert torch.equal(stretched.scores, found.scores)
        assert (found.scores.diff() <= 0).all()
        assert torch.isin(found.labels, torch.arange(3)).all()
        # a DETR's boxes may reach over the border, but their centres lie inside
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        assert ((centres >= 0) & (centres <= torch.tensor([width, height]))).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_a_loss_needs_no_training_mode_and_detections_no_evaluation_mode(
    detector: Detector, images: Images, sizes: Sizes, objects_at_random: Callable
) -> None:
    objects = objects_at_random(*[1] * len(sizes), num_classes=3)
    detector.eval()
    assert detector(images, objects, count_totals(objects, detector.max_objects)).total.ndim == 0
    assert not any(module.training for module in detector.modules())
    detector.train()
    with torch.no_grad():
        assert len(detector.detect(images, sizes)) == len(sizes)
    assert detector.training


def test_damaged_weights_are_noticed_not_taken_for_empty_images(
    experiment: Experiment, images: Images, sizes: Sizes
) -> None:
    detector = build(experiment)
    with torch.no_grad():
        next(detector.backbone.parameters()).fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="not finite"):
        inference.detect(detector, images, sizes, "fp32")


def test_a_file_gives_the_same_detector_back(
    experiment: Experiment, detector: Detector, images: Images, sizes: Sizes, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    store.write(path, detector.state_dict(), experiment, CATEGORIES)
    again = load(path)
    assert again.categories == CATEGORIES
    state = detector.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert again.state_dict().keys() == state.keys()
    if not hasattr(detector.get_submodule("network"), "rpn"):
        expected = detect(detector, images, sizes)
        for found, wanted in zip(detect(again, images, sizes), expected, strict=True):
            assert all(torch.equal(*columns) for columns in zip(found, wanted, strict=True))


def test_bfloat16_has_a_loss_near_float32s_and_answers_in_float32(
    detector: Detector, images: Images, sizes: Sizes, objects_at_random: Callable
) -> None:
    objects = objects_at_random(2, 1, num_classes=3)
    exact = step(detector, images, objects)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = step(detector, images, objects)
    assert rounded.dtype == torch.float32
    assert rounded != exact
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0)
    half = frozen(detector, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        for found in detect(half, images, sizes):
            assert found.boxes.dtype == found.scores.dtype == torch.float32
            assert torch.isfinite(found.boxes).all()
