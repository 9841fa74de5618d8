"""A compiled network computes what it computed before; the kernels themselves are torch's."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jaxtyping
import pytest
import torch
import torch._inductor.config
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.settings.recipes import recipe_names
from detrkit.structures import Images, Objects

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
Batches = Sequence[tuple[tuple[int, int], tuple[int, int]]]
ONE: Batches = [((64, 96), (1, 0))]
MANY: Batches = [*ONE, ((96, 64), (2, 3)), ((64, 64), (0, 0))]
SMALL = {
    "model.backbone.name": "resnet18",
    "model.backbone.dilation": False,
    "model.backbone.weights": "none",
    "model.transformer.feedforward": 64,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.transformer.dropout": 0.0,
}


@pytest.fixture(autouse=True)
def _without_shape_checks() -> Iterator[None]:
    """torch's compiler cannot look into jaxtyping's checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    torch._dynamo.reset()
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch._dynamo.reset()


SMALL_FCOS = {"model.backbone.name": "resnet18", "model.backbone.weights": "none"}


def build(name: str) -> Detector:
    torch.manual_seed(0)
    return build_detector(recipe(name, SMALL_FCOS if name == "fcos_r50" else SMALL), CATEGORIES).train()


def steps(detector: Detector, batches: Batches) -> list[tuple[Tensor, list[Tensor]]]:
    """Loss and gradients for batches of these sizes and numbers of objects."""
    found = []
    for size, counts in batches:
        generator = torch.Generator().manual_seed(1)
        images = Images(torch.randn(2, 3, *size, generator=generator))
        objects = [
            Objects(torch.rand(count, 4, generator=generator) * 0.3 + 0.3, torch.ones(count).long())
            for count in counts
        ]
        torch.manual_seed(2)
        total = detector(images, objects, count_totals(objects, detector.max_objects)).total
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        found.append((total.detach(), list(torch.autograd.grad(total, trained))))
    return found


def compare(name: str, batches: Batches, backend: str, tolerance: float) -> None:
    """Losses to ``tolerance`` and gradients to 3 % of their norm, with the same random numbers.

    Where a ReLU is near 0 and normalisation has few cells to go by, another order of sums changes a gradient.
    """
    compiled = build(name)
    compiled.compile(dynamic=True, backend=backend)
    with torch._inductor.config.patch(fallback_random=True):
        found_steps = steps(compiled, batches)
    for (loss, gradients), (wanted_loss, wanted) in zip(
        found_steps, steps(build(name), batches), strict=True
    ):
        torch.testing.assert_close(loss, wanted_loss, rtol=tolerance, atol=0)
        largest = max(gradient.norm() for gradient in wanted)
        for gradient, expected in zip(gradients, wanted, strict=True):
            allowed = 0.03 * max(expected.norm(), 1e-2 * largest)
            assert (gradient - expected).norm() <= allowed


@pytest.mark.parametrize("name", ["detr_r50", "conditional_r50", "shapes", "fcos_r50"])
def test_every_network_is_traced_faithfully(name: str) -> None:
    """Without torch's code generation, which takes minutes: see the long test below."""
    compare(name, ONE, "eager", 1e-5)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe(name).model.kind == "detr"])
def test_every_recipe_is_compiled(name: str, backend: str) -> None:
    compare(name, MANY, backend, 1e-3)


def test_compiling_changes_no_name(tmp_path: Path) -> None:
    compiled, plain = build("shapes"), build("shapes")
    compiled.compile(dynamic=True, backend="eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
