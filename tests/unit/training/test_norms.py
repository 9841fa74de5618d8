import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detrkit.settings.training import AdamWSettings
from detrkit.training.norms import clip_gradients, copy_weights, groups_of, update_ratios
from detrkit.training.optimise import build_optimizer


def norm_of(tensors: list[Tensor]) -> float:
    return sum(tensor.detach().double().square().sum().item() for tensor in tensors) ** 0.5


def gradients_drawn(detector: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in detector.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("clip_norm", [0.0, 0.1, 1e6])
def test_clipping_is_torchs_to_the_last_bit(build_tiny: Callable, clip_norm: float) -> None:
    ours, torchs = build_tiny(0), build_tiny(0)
    gradients_drawn(ours)
    gradients_drawn(torchs)
    groups = groups_of(build_optimizer(ours, AdamWSettings()))
    total, _ = clip_gradients(ours.parameters(), groups, clip_norm)
    expected = torch.nn.utils.clip_grad_norm_(torchs.parameters(), clip_norm or float("inf"))
    assert total == expected
    for found, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert (found.grad is None) == (other.grad is None)
        assert found.grad is None or torch.equal(found.grad, other.grad)


def test_norms_are_before_clipping_and_of_each_group(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    gradients_drawn(detector)
    before = copy.deepcopy([parameter.grad for parameter in detector.parameters()])
    body = {id(parameter) for parameter in detector.body.parameters()}
    of_body = [id(parameter) in body for parameter in detector.parameters()]
    groups = groups_of(build_optimizer(detector, AdamWSettings()))
    total, norms = clip_gradients(detector.parameters(), groups, 0.01)
    present = [(inside, grad) for inside, grad in zip(of_body, before, strict=True) if grad is not None]
    assert norms["backbone"].item() == pytest.approx(norm_of([grad for inside, grad in present if inside]))
    assert norms["rest"].item() == pytest.approx(norm_of([grad for inside, grad in present if not inside]))
    assert total.item() == pytest.approx((norms["backbone"] ** 2 + norms["rest"] ** 2).sqrt().item())


def test_a_group_without_gradients_has_a_norm_of_zero(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    gradients_drawn(detector)
    for parameter in detector.body.parameters():
        parameter.grad = None
    groups = groups_of(build_optimizer(detector, AdamWSettings()))
    total, norms = clip_gradients(detector.parameters(), groups, 0.0)
    assert norms["backbone"] == 0
    assert norms["rest"] == total > 0


def test_an_update_ratio_is_that_of_the_states_before_and_after(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    optimizer = build_optimizer(detector, AdamWSettings(lr=0.1, backbone_lr=0.01))
    groups = groups_of(optimizer)
    for number in range(3):
        then = copy.deepcopy(dict(detector.named_parameters()))
        before = copy_weights(groups)
        detector.step(optimizer, number)
        ratios = update_ratios(groups, before)
        now = dict(detector.named_parameters())
        trained = [name for name, parameter in now.items() if parameter.requires_grad]
        for group, prefix in (("backbone", "body."), ("rest", "head.")):
            names = [name for name in trained if name.startswith(prefix)]
            change = norm_of([now[name].double() - then[name].double() for name in names])
            expected = change / norm_of([then[name] for name in names])
            assert ratios[group].item() == pytest.approx(expected, rel=1e-5)
            assert expected > 0
