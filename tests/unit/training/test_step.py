from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from detrkit.errors import DetrkitError
from detrkit.objective.matching import NonFiniteCostError
from detrkit.structures import Batch, Images, LossReport, Objects, Totals
from detrkit.training.step import NonFiniteLossError, StepReport, agree, explain, take_step, to_device


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def batch(first_id: int, *counts: int) -> Batch:
    generator = torch.Generator().manual_seed(first_id)
    pixels = torch.randn(len(counts), 3, 2, 2, generator=generator)
    objects = [
        Objects(torch.rand(count, 4, generator=generator), torch.zeros(count, dtype=torch.int64))
        for count in counts
    ]
    image_ids = list(range(first_id, first_id + len(counts)))
    return Batch(
        Images(pixels, torch.ones(len(counts), 2, 2, dtype=torch.bool)),
        objects,
        image_ids,
        [(2, 2)] * len(counts),
    )


@pytest.mark.parametrize("stop", [False, True])
def test_totals_are_counted_over_all_micro_batches(accelerator: Accelerator, stop: bool) -> None:
    totals, stops = agree(accelerator, [batch(0, 2, 7), batch(2, 0), batch(3, 5, 6)], 5, stop)
    assert totals == Totals(images=5, boxes=2 + 7 + 0 + 5 + 6, matched=2 + 5 + 0 + 5 + 5)
    assert stops is stop


def sum_of_squares(parameters: list[Tensor]) -> float:
    return sum(value.square().sum().item() for value in parameters)


@pytest.mark.parametrize("clip_norm", [0.0, 0.01, 1e6])
def test_a_step_follows_the_gradient_of_all_micro_batches_clipped(
    accelerator: Accelerator, build_tiny: Callable, clip_norm: float
) -> None:
    detector, twin = build_tiny(0).eval(), build_tiny(0).eval()
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(detector.parameters(), lr=1.0))
    batches = [batch(0, 1, 1), batch(2, 1)]
    totals = Totals(3, 3, 3)
    report = take_step(accelerator, detector, optimizer, batches, totals, clip_norm)

    pixels = torch.cat([each.images.pixels for each in batches])
    loss = twin.head(twin.body(pixels.mean((2, 3)))).square().sum(1).mean()
    parameters = [value for value in twin.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    norm = sum_of_squares(list(gradients)) ** 0.5
    assert isinstance(report, StepReport)
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    assert report.terms == {"loss": [pytest.approx(loss.item(), rel=1e-5)]}
    assert report.gradient_norm == pytest.approx(norm, rel=1e-5)
    scale = min(1.0, clip_norm / norm) if clip_norm else 1.0
    moved = [value for value in detector.parameters() if value.requires_grad]
    for found, before, gradient in zip(moved, parameters, gradients, strict=True):
        torch.testing.assert_close(found, before - scale * gradient, rtol=1e-4, atol=1e-6)


class Failing(torch.nn.Module):
    """Fails, as it is told to, on the batch that begins with image 2."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.failure = failure
        self.calls = 0

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        self.calls += 1
        if self.calls == 2 and self.failure == "cost":
            raise NonFiniteCostError([1])
        factor = float(self.failure) if self.calls == 2 else 1.0
        return LossReport(self.weight * factor, {})


@pytest.mark.parametrize(
    ("failure", "image_ids", "text"),
    [
        ("nan", [2, 3], "the loss is nan"),
        ("inf", [2, 3], "the loss is inf"),
        ("cost", [3], "the matching costs"),
    ],
)
def test_a_loss_that_is_not_finite_moves_nothing_and_names_its_images(
    accelerator: Accelerator, failure: str, image_ids: list[int], text: str
) -> None:
    model = Failing(failure)
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(NonFiniteLossError, match=text) as caught:
        take_step(accelerator, model, optimizer, [batch(0, 1, 1), batch(2, 1, 1)], Totals(4, 4, 4), 0.1)
    assert caught.value.image_ids == image_ids
    assert model.weight.item() == 1
    sentence = explain(caught.value, [Path("data/7.jpg"), Path("data/9.jpg")])
    assert isinstance(sentence, DetrkitError)
    assert "data/7.jpg, data/9.jpg" in str(sentence)
    assert text in str(sentence)


def test_pixels_and_boxes_take_the_networks_precision() -> None:
    moved = to_device(batch(4, 1, 0), torch.device("cpu"), torch.float64)
    assert moved.images.pixels.dtype == torch.float64
    assert moved.images.valid.dtype == torch.bool
    assert [image.boxes.dtype for image in moved.objects] == [torch.float64] * 2
    assert [image.labels.dtype for image in moved.objects] == [torch.int64] * 2
    assert moved.image_ids == [4, 5]
