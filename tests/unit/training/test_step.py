import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.structures import Batch, Images, LossReport, Objects, Totals
from detrkit.training.averaging import Average
from detrkit.training.optimise import build_optimizer
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
def test_totals_are_counted_over_all_micro_batches(stop: bool) -> None:
    agreed = agree([batch(0, 2, 7), batch(2, 0), batch(3, 5, 6)], 5, stop)
    assert agreed.totals == Totals(images=5, boxes=2 + 7 + 0 + 5 + 6, matched=2 + 5 + 0 + 5 + 5)
    assert agreed.stop is stop
    assert not agreed.unread


def named(detector: torch.nn.Module) -> list[dict[str, Any]]:
    return [{"name": "all", "params": list(detector.parameters())}]


def sum_of_squares(parameters: list[Tensor]) -> float:
    return sum(value.square().sum().item() for value in parameters)


@pytest.mark.parametrize("clip_norm", [0.0, 0.01, 1e6])
def test_a_step_follows_the_gradient_of_all_micro_batches_clipped(
    accelerator: Accelerator, build_tiny: Callable, clip_norm: float
) -> None:
    detector, twin = build_tiny(0).eval(), build_tiny(0).eval()
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(named(detector), lr=1.0, fused=True))
    batches = [batch(0, 1, 1), batch(2, 1)]
    totals = Totals(3, 3, 3)
    report = take_step(
        accelerator, detector, optimizer, batches, totals, clip_norm, measure_update=True
    ).read()

    pixels = torch.cat([each.images.pixels for each in batches])
    loss = twin.head(twin.body(pixels.mean((2, 3)))).square().sum(1).mean()
    parameters = [value for value in twin.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    norm = sum_of_squares(list(gradients)) ** 0.5
    assert isinstance(report, StepReport)
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    assert report.terms == {"loss": [pytest.approx(loss.item(), rel=1e-5)]}
    assert report.gradient_norm == pytest.approx(norm, rel=1e-5)
    assert report.gradient_norms == {"all": report.gradient_norm}
    scale = min(1.0, clip_norm / norm) if clip_norm else 1.0
    moved = [value for value in detector.parameters() if value.requires_grad]
    for found, before, gradient in zip(moved, parameters, gradients, strict=True):
        torch.testing.assert_close(found, before - scale * gradient, rtol=1e-4, atol=1e-6)
    weights = sum_of_squares(list(twin.parameters())) ** 0.5
    assert report.update_ratios == {"all": pytest.approx(scale * norm / weights, rel=1e-3)}


class Failing(torch.nn.Module):
    """Fails, as it is told to, on the batch that begins with image 2."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.failure = failure
        self.calls = 0

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        self.calls += 1
        if self.calls != 2:
            return LossReport(self.weight * 1.0, {"loss": torch.ones(1)})
        unmatched = [1] if self.failure == "cost" else []
        factor = float("nan" if unmatched else self.failure)
        return LossReport(self.weight * factor, {"loss": torch.ones(1)}, unmatched)


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
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(named(model), lr=1.0, fused=True))
    with pytest.raises(NonFiniteLossError, match=text) as caught:
        take_step(
            accelerator, model, optimizer, [batch(0, 1, 1), batch(2, 1, 1)], Totals(4, 4, 4), 0.1
        ).read()
    assert caught.value.image_ids == image_ids
    assert model.weight.item() == 1
    sentence = explain(str(caught.value), [Path("data/7.jpg"), Path("data/9.jpg")])
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


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts what makes the host wait for the device, by operator."""

    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name.startswith(self.waiting):
            self.met.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("decoder", ["plain", "conditional", "anchor", "all that only training has"])
def test_a_step_waits_for_the_device_once(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, small_detr: dict[str, object], decoder: str
) -> None:
    settings = small_detr | {"model.transformer.dropout": 0.1, "scoring.kind": "focal"}
    if decoder == "all that only training has":
        further = {"groups": 2, "denoising.groups": 2, "denoising.negatives": True}
        settings |= {"model.decoder.kind": "anchor"} | {f"model.decoder.{k}": v for k, v in further.items()}
    else:
        settings |= {"model.decoder.kind": decoder}
    experiment = recipe("detr_r50", settings)
    detector = build_detector(experiment, (Category(1, "cat"), Category(2, "dog")))
    optimizer = accelerator.prepare_optimizer(build_optimizer(detector, experiment.optim))
    average = Average(detector, 0.9)
    pixels = torch.randn(2, 3, 64, 64)
    objects = [Objects(torch.rand(count, 4) / 2 + 0.1, torch.ones(count).long()) for count in (3, 0)]
    batches = [Batch(Images(pixels), objects, [1, 2], [(64, 64)] * 2)]
    totals = agree(batches, detector.max_objects, stop=False).totals

    calls: list[str] = []
    for name in ("cpu", "item", "nonzero", "tolist", "numpy", "__bool__", "__int__", "__float__"):
        genuine = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, name: str = name, genuine: Any = genuine) -> Any:
            calls.append(name)
            return genuine(self, *args)

        monkeypatch.setattr(Tensor, name, counted)
    for _ in range(3):
        calls.clear()
        with Waits() as waits:
            pending = take_step(accelerator, detector, optimizer, batches, totals, 0.1, measure_update=True)
            average.update(detector, pending.taken)
        assert calls == ["cpu", "numpy"]  # the costs of the matching; as numpy's they are on the host already
        assert waits.met == []
    monkeypatch.undo()
    report = pending.read()
    assert report.gradient_norm > 0
    assert report.update_ratios is not None


def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_moments(
    accelerator: Accelerator, build_tiny: Callable
) -> None:
    detector = build_tiny(0)
    optimizer = accelerator.prepare_optimizer(torch.optim.AdamW(named(detector), lr=0.1, fused=True))
    good, bad = batch(0, 1, 1), batch(2, 1, 1)
    bad.images.pixels[0, 0, 0, 0] = float("nan")
    take_step(accelerator, detector.eval(), optimizer, [good], Totals(2, 2, 2), 0.1).read()
    before = copy.deepcopy((detector.state_dict(), optimizer.state_dict()["state"]))
    pending = take_step(accelerator, detector, optimizer, [good, bad], Totals(4, 4, 4), 0.1)
    with pytest.raises(NonFiniteLossError, match="the loss is nan") as caught:
        pending.read()
    assert caught.value.image_ids == [2, 3]
    torch.testing.assert_close(
        (detector.state_dict(), optimizer.state_dict()["state"]), before, rtol=0, atol=0
    )
    assert take_step(accelerator, detector, optimizer, [good], Totals(2, 2, 2), 0.1).read().loss > 0


class Overflowing(torch.nn.Module):
    """Has gradients as large as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.gradient = 1.0

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        loss = (self.weight * self.gradient * torch.tensor([1.0, -1.0, 1.0])).sum()
        return LossReport(loss, {"loss": loss.detach()[None]})


@pytest.fixture
def scaled(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    """With the scaler of fp16, which computes on a CPU as it does on a GPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    monkeypatch.setattr(accelerator, "scaler", scaler)
    monkeypatch.setattr(accelerator, "native_amp", True)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    monkeypatch.setattr(accelerator, "_optimizers", [])
    return accelerator


def test_an_overflow_in_fp16_halves_the_scale_until_it_is_not_the_scales_fault(scaled: Accelerator) -> None:
    model = Overflowing()
    optimizer = scaled.prepare_optimizer(torch.optim.AdamW(named(model), lr=0.1, fused=True))
    step = partial(take_step, scaled, model, optimizer, [batch(0, 1)], Totals(1, 1, 1), 0.1)

    before = copy.deepcopy(model.state_dict())
    for gradient, scale in ((3e38, 2), (3e38, 1), (1e38, 0.5)):  # the last is finite, but its norm is not
        model.gradient = gradient
        pending = step()
        assert pending.taken == 0
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
        assert scaled.scaler.get_scale() == scale
        if scale >= 1:
            assert pending.read().gradient_norm == float("inf")
        else:
            with pytest.raises(NonFiniteLossError, match="the gradient's norm is inf"):
                pending.read()

    model.gradient = 1.0
    pending = step()
    assert pending.read().gradient_norm == pytest.approx(3**0.5)
    assert pending.taken == 1
    torch.testing.assert_close(model.weight, torch.tensor([0.899, 1.099, 0.899]), rtol=1e-5, atol=0)

    moved = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    model.gradient = float("inf")
    with pytest.raises(NonFiniteLossError, match="the loss is nan"):  # inf - inf
        step().read()
    model.weight.register_hook(lambda grad: grad * torch.nan)
    model.gradient = 1.0
    with pytest.raises(NonFiniteLossError, match="the gradient's norm is nan"):
        step().read()
    assert scaled.scaler.get_scale() == 0.125
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), moved, rtol=0, atol=0)
