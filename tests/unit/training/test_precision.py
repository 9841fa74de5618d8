"""Every recipe trains in bfloat16, and its first loss is float32's but for rounding."""

import pytest
import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.inference.precision import Precision, autocast
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.settings.recipes import recipe_names
from detrkit.structures import Images, Objects

SMALL = {"model.backbone.weights": "none", "model.transformer.dropout": 0.0}


def first_step(name: str, precision: Precision) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(0)
    detector = build_detector(recipe(name, SMALL), (Category(1, "cat"), Category(2, "dog"))).train()
    box = torch.tensor([[0.5, 0.5, 0.4, 0.3]])
    objects = [Objects(box.repeat(count, 1), torch.ones(count).long()) for count in (2, 0)]
    torch.manual_seed(1)
    images = Images(torch.randn(2, 3, 64, 96))
    with autocast("cpu", precision):
        total = detector(images, objects, count_totals(objects, detector.max_objects)).total
    total.backward()
    return total.detach(), [parameter.grad for parameter in detector.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe(name).model.kind == "detr"])
def test_every_recipe_trains_in_bfloat16(name: str) -> None:
    exact, _ = first_step(name, "fp32")
    found, gradients = first_step(name, "bf16")
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    assert found != exact
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
