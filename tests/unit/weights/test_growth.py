"""Deeper and wider networks start as the function that they grew from; shallower ones keep what they can."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.settings.experiment import Experiment, recipe
from detrkit.structures import DetrOutput, Images
from detrkit.weights.growth import BLOCKS
from detrkit.weights.store import Stored
from detrkit.weights.transfer import Transfer, transfer

CATEGORIES = (Category(1, "a"), Category(2, "b"))
SMALL = {
    "model.backbone.name": "resnet18",
    "model.backbone.weights": "none",
    "model.transformer.width": 32,
    "model.transformer.feedforward": 48,
    "model.encoder.layers": 2,
    "model.decoder.layers": 2,
    "model.decoder.queries": 5,
}


def settings(name: str, **overrides: object) -> Experiment:
    named = {f"model.{key.replace('__', '.')}": value for key, value in overrides.items()}
    return recipe(name, SMALL | named)


def trained(experiment: Experiment) -> Stored:
    """A network whose every tensor differs from what networks start with, as after training."""
    torch.manual_seed(0)
    detector = build_detector(experiment, CATEGORIES)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return Stored(experiment, CATEGORIES, dict(detector.state_dict()))


def grown(source: Stored, experiment: Experiment) -> Transfer:
    torch.manual_seed(1)
    fresh = dict(build_detector(experiment, CATEGORIES).state_dict())
    return transfer(source, fresh, experiment, CATEGORIES)


@torch.no_grad()
def answer(experiment: Experiment, tensors: dict[str, Tensor]) -> DetrOutput:
    detector = build_detector(experiment, CATEGORIES)
    detector.load_state_dict(tensors)
    images = Images(torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)))
    return detector.eval().get_submodule("network")(images)


def assert_same_answer(source: Stored, experiment: Experiment, tolerance: float) -> None:
    old = answer(source.experiment, source.tensors)
    new = answer(experiment, grown(source, experiment).tensors)
    torch.testing.assert_close(new.logits[-1], old.logits[-1], rtol=0, atol=tolerance)
    torch.testing.assert_close(new.boxes[-1], old.boxes[-1], rtol=0, atol=tolerance)
    assert old.logits.std(dim=2).min() > 1e-3, "queries that answer alike would show nothing"


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("name", ["detr_r50", "conditional_r50"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_further_layers_leave_the_answer_as_it_is(name: str, part: str, pre_norm: bool) -> None:
    source = trained(settings(name, transformer__pre_norm=pre_norm))
    deeper = settings(name, transformer__pre_norm=pre_norm, **{f"{part}__layers": 5})
    assert_same_answer(source, deeper, tolerance=1e-4)


def test_further_encoder_layers_leave_the_answer_of_anchors_as_it_is() -> None:
    assert_same_answer(trained(settings("dab_dn_r50")), settings("dab_dn_r50", encoder__layers=4), 1e-4)


def test_a_further_anchor_layer_is_a_copy_of_the_last() -> None:
    source, deeper = trained(settings("dab_dn_r50")), settings("dab_dn_r50", decoder__layers=3)
    found = grown(source, deeper)
    new = {name: tensor for name, tensor in found.tensors.items() if ".decoder.layers.2." in name}
    assert new
    for name, tensor in new.items():
        assert torch.equal(tensor, source.tensors[name.replace("layers.2", "layers.1")])


def test_further_hidden_units_leave_the_answer_as_it_is() -> None:
    assert_same_answer(trained(settings("detr_r50")), settings("detr_r50", transformer__feedforward=80), 1e-5)


@pytest.mark.parametrize("norm", ["frozen", "group", "batch"])
def test_basic_blocks_grow_too(norm: str) -> None:
    """From ResNet-18 to ResNet-34, whose every stage is deeper."""
    weights = "none" if norm == "group" else "imagenet"
    source = trained(settings("detr_r50", backbone__weights=weights, backbone__norm=norm))
    deeper = settings("detr_r50", backbone__weights=weights, backbone__norm=norm, backbone__name="resnet34")
    assert_same_answer(source, deeper, tolerance=1e-5)


def test_a_shallower_network_takes_the_layers_that_it_has() -> None:
    source, smaller = trained(settings("detr_r50", backbone__name="resnet34")), settings("detr_r50")
    found = grown(source, smaller)
    assert all(torch.equal(tensor, source.tensors[name]) for name, tensor in found.tensors.items())
    told = Counter(row.what for row in found.rows)
    assert told == {"carried": len(found.tensors), "dropped": len(source.tensors) - len(found.tensors)}


def test_a_level_finds_its_projection_at_another_place() -> None:
    source = trained(settings("detr_r50"))
    found = grown(source, settings("detr_r50", backbone__levels=["layer3", "layer4"]))
    moved, fresh = (
        next(row for row in found.rows if row.name == f"network.encoder.project.{place}.weight")
        for place in (1, 0)
    )
    assert (moved.what, moved.source) == ("carried", "network.encoder.project.0.weight")
    assert (fresh.what, fresh.source) == ("fresh", None)


@pytest.mark.parametrize("name", BLOCKS)
def test_stages_have_as_many_blocks_as_those_of_torchvision(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        resnet = getattr(torchvision.models, name)()
    assert BLOCKS[name] == tuple(len(resnet.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4))
