"""A ResNet-101 grown from a ResNet-50 starts as the same function, and all of its new blocks learn."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torchvision
from accelerate import Accelerator
from torch import Tensor, nn

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.inference.transferred import transferred
from detrkit.settings.experiment import recipe
from detrkit.settings.training import AdamWSettings
from detrkit.structures import Batch, DetrOutput, Images, Objects
from detrkit.training.optimise import build_optimizer
from detrkit.training.step import agree, take_step
from detrkit.weights.store import Stored

CATEGORIES = tuple(Category(number, f"class {number}") for number in (1, 2, 3))
NEW = [f"layer3.{number}" for number in range(6, 23)]
SMALL = {
    "model.transformer.width": 32,
    "model.transformer.feedforward": 64,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 5,
}
LEARNING_RATE = 1e-4
BOTH_RATES = AdamWSettings(lr=LEARNING_RATE, backbone_lr=LEARNING_RATE)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's ResNet-50 whose statistics are those of its features, as after any training."""
    torch.manual_seed(0)
    resnet = torchvision.models.resnet50(norm_layer=partial(nn.BatchNorm2d, momentum=None))
    with torch.no_grad():
        resnet.train()(torch.randn(16, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(resnet.state_dict(), path)
    return path


def norm_settings(norm: str, pretrained: Path) -> dict[str, object]:
    weights = "none" if norm == "group" else str(pretrained)
    return {"model.backbone.norm": norm, "model.backbone.weights": weights}


class Grown(NamedTuple):
    smaller: Detector
    larger: Detector


@pytest.fixture
def grow(pretrained: Path) -> Callable[[str, str], Grown]:
    from detrkit.models.pretrained import load_pretrained

    def make(name: str, norm: str) -> Grown:
        overrides = SMALL | norm_settings(norm, pretrained)
        experiment = recipe(f"{name}_r50", overrides)
        torch.manual_seed(1)
        smaller = build_detector(experiment, CATEGORIES)
        load_pretrained(smaller.backbone, experiment.model.backbone)
        target = recipe(f"{name}_r101", overrides)
        state = transferred(Stored(experiment, CATEGORIES, dict(smaller.state_dict())), target, "grow")
        larger = build_detector(target, CATEGORIES)
        larger.load_state_dict(state.tensors)
        return Grown(smaller, larger)

    return make


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two images of which one is padded."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randn(2, 3, 64, 64, generator=generator)
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    pixels[1, :, :, 40:], valid[1, :, 40:] = 0, False
    objects = [
        Objects(
            0.3 + 0.4 * torch.rand(count, 4, generator=generator),
            torch.randint(3, (count,), generator=generator),
        )
        for count in (3, 1)
    ]
    return Batch(Images(pixels, valid), objects, [1, 2], [(64, 64), (64, 40)])


@torch.no_grad()
def answer(detector: Detector, images: Images) -> DetrOutput:
    return detector.eval().get_submodule("network")(images)


@torch.no_grad()
def changes(detector: Detector, images: Images) -> dict[str, float]:
    """By how much of its input's norm each new block changes it."""
    found: dict[str, float] = {}

    def listen(name: str) -> Callable[..., None]:
        def hear(block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            found[name] = ((output - inputs[0]).norm() / inputs[0].norm()).item()

        return hear

    handles = [detector.backbone.get_submodule(name).register_forward_hook(listen(name)) for name in NEW]
    answer(detector, images)
    for handle in handles:
        handle.remove()
    assert len(found) == 17
    return found


def train(detector: Detector, batch: Batch, steps: int) -> Callable[[], None]:
    """Takes the steps, and returns what takes one more."""
    accelerator = Accelerator(cpu=True)
    optimizer = accelerator.prepare_optimizer(build_optimizer(detector, BOTH_RATES))
    totals = agree([batch], detector.max_objects, False).totals

    def step() -> None:
        torch.manual_seed(3)
        take_step(accelerator, detector.train(), optimizer, [batch], totals, BOTH_RATES.clip_norm).read()

    for _ in range(steps):
        step()
    return step


@pytest.mark.parametrize("norm", ["frozen", "group", "batch"])
@pytest.mark.parametrize("name", ["detr", "conditional", "dab_dn"])
def test_the_grown_network_answers_as_the_smaller(
    grow: Callable[[str, str], Grown], batch: Batch, name: str, norm: str
) -> None:
    smaller, larger = grow(name, norm)
    old, new = answer(smaller, batch.images), answer(larger, batch.images)
    torch.testing.assert_close(new.logits, old.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(new.boxes, old.boxes, rtol=0, atol=1e-5)
    assert old.boxes.std() > 1e-3
    assert set(changes(larger, batch.images).values()) == {0.0}


LEARNS = [
    pytest.param(name, norm, marks=[] if (name, norm) in (("detr", "frozen"),) else pytest.mark.long)
    for name in ("detr", "conditional", "dab_dn")
    for norm in ("frozen", "group", "batch")
]


@pytest.mark.parametrize(("name", "norm"), LEARNS)
def test_new_blocks_start_gently_and_all_of_them_learn(
    grow: Callable[[str, str], Grown], batch: Batch, name: str, norm: str
) -> None:
    larger = grow(name, norm).larger
    before = {name: value.clone() for name, value in larger.backbone.named_parameters()}
    step = train(larger, batch, 1)
    first = changes(larger, batch.images)
    assert all(0 < change < 0.01 for change in first.values())

    for _ in range(19):
        step()
    new = [name for name in before if name.startswith(tuple(f"{block}." for block in NEW))]
    assert len(new) == 17 * (3 if norm == "frozen" else 9)
    after, decay = dict(larger.backbone.named_parameters()), 20 * LEARNING_RATE * BOTH_RATES.weight_decay
    for name in new:
        moved = (after[name] - before[name]).abs().mean()
        assert moved > max(1e-7, 10 * decay * before[name].abs().mean()), "not by weight decay alone"
