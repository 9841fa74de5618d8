"""Recomputed activations give the same loss and gradients, to the bit, from fewer kept bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import detrkit
from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.settings.recipes import recipe_names
from detrkit.structures import Images, Objects
from detrkit.training.memory import recompute_activations

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
SMALL = {"model.backbone.weights": "none", "model.transformer.feedforward": 64}
SMALL_FCOS = {"model.backbone.weights": "none", "model.backbone.name": "resnet18"}


def first_step(detector: Detector) -> tuple[Tensor, dict[str, Tensor], int]:
    """The loss, the gradients, and how many bytes were kept for the backward pass."""
    objects = [
        Objects(torch.tensor([[0.5, 0.5, 0.4, 0.3]]), torch.tensor([1])),
        Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]
    images = Images(torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = detector.train()(images, objects, count_totals(objects, detector.max_objects)).total
    torch.manual_seed(3)
    total.backward()
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    return total.detach(), gradients, sum(kept.values())


def build(name: str, checkpointing: bool) -> Detector:
    torch.manual_seed(0)
    detector = build_detector(recipe(name, SMALL_FCOS if name == "fcos_r50" else SMALL), CATEGORIES)
    if checkpointing:
        recompute_activations(detector)
    return detector


@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe(name).model.kind == "detr"])
def test_every_recipe_computes_the_same_with_less(name: str) -> None:
    loss, gradients, kept = first_step(build(name, checkpointing=False))
    found_loss, found, found_kept = first_step(build(name, checkpointing=True))
    assert torch.equal(found_loss, loss)
    assert found.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        assert torch.equal(found[parameter], gradient), parameter
    # parameters, which both keep, are most of it at this size of image
    parameters = sum(p.nbytes for p in build(name, checkpointing=False).parameters())
    assert found_kept < kept
    assert found_kept - parameters < 0.8 * (kept - parameters) or "shapes" in name


def test_a_classical_detector_computes_the_same_with_less() -> None:
    loss, gradients, kept = first_step(build("fcos_r50", checkpointing=False))
    found_loss, found, found_kept = first_step(build("fcos_r50", checkpointing=True))
    assert torch.equal(found_loss, loss)
    assert all(torch.equal(found[name], gradient) for name, gradient in gradients.items())
    assert found_kept < kept


def test_a_run_trains_with_it_as_without(
    tmp_path: Path, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> None:
    data = write_coco(tmp_path / "data", train=[2, 1, 0], val=[1])
    settings = small_detr | {"model.transformer.dropout": 0.1, "train.max_steps": 3}
    losses = {}
    for checkpointing in (False, True):
        run = detrkit.recipe("detr_r50", settings | {"train.activation_checkpointing": checkpointing})
        events = list(detrkit.fit(run, data=data, out=tmp_path / str(checkpointing)))
        losses[checkpointing] = [event.loss for event in events if hasattr(event, "loss")]
    assert len(losses[True]) == 3
    assert losses[True] == losses[False]
