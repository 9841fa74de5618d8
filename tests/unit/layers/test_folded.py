"""Folding changes no value, no gradient and no name: torchvision's modules in turn are the truth."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detrkit.layers.folded import FoldedConv2d, FoldedNorm, fold_norms


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """A ResNet with folded normalisation and torchvision's, with the same random weights and statistics."""
    torch.manual_seed(0)
    build = getattr(torchvision.models, name)
    plain = build(norm_layer=FrozenBatchNorm2d).double()
    for key, value in plain.state_dict().items():
        if "bn" in key or "downsample.1" in key:
            value.copy_(torch.rand_like(value) * 0.4 + 0.3)
    folded = build(norm_layer=FoldedNorm).double()
    folded.load_state_dict(plain.state_dict())
    fold_norms(folded)
    return folded, plain


def gradients(module: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    found = module(images)
    parameters = dict(module.named_parameters())
    return found, dict(
        zip(parameters, torch.autograd.grad(found.square().sum(), list(parameters.values())), strict=True)
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_outputs_and_gradients_are_those_of_convolution_and_normalisation(name: str) -> None:
    folded, plain = pair(name)
    assert any(isinstance(module, FoldedConv2d) for module in folded.modules())
    assert not any(isinstance(module, nn.Conv2d) for module in folded.modules())
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    (found, found_gradients), (expected, expected_gradients) = (
        gradients(folded, images),
        gradients(plain, images),
    )
    torch.testing.assert_close(found, expected)
    assert found_gradients.keys() == expected_gradients.keys()
    for parameter, gradient in found_gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[parameter])


def test_the_names_are_torchvisions() -> None:
    folded, plain = pair("resnet50")
    assert list(folded.state_dict()) == list(plain.state_dict())


def test_frozen_weights_are_folded_once() -> None:
    folded, plain = pair("resnet18")
    convolutions = [module for module in folded.modules() if isinstance(module, FoldedConv2d)]
    images = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        for module in convolutions:
            module.freeze()
        folded.bn1.weight.zero_()
        torch.testing.assert_close(folded(images), plain(images))
    assert [name for module in convolutions for name, _ in module.named_parameters()] == []


def test_other_normalisation_is_left_alone() -> None:
    resnet = torchvision.models.resnet18(norm_layer=nn.BatchNorm2d)
    names = [type(module) for module in resnet.modules()]
    fold_norms(resnet)
    assert [type(module) for module in resnet.modules()] == names
