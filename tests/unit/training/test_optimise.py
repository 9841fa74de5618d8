from collections.abc import Callable

import pytest
import torch

from detrkit.settings.training import AdamWSettings, SgdSettings
from detrkit.training.optimise import build_optimizer, set_rates


def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_in_none(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    optimizer = build_optimizer(detector, AdamWSettings())
    groups = {
        group["name"]: {id(parameter) for parameter in group["params"]} for group in optimizer.param_groups
    }
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    assert {group: sorted(names[number] for number in numbers) for group, numbers in groups.items()} == {
        "backbone": ["body.1.bias", "body.1.weight", "body.2.bias", "body.2.weight"],
        "rest": ["head.bias", "head.weight"],
    }


def test_it_is_adamw_with_the_settings_decay(build_tiny: Callable) -> None:
    optimizer = build_optimizer(build_tiny(0), AdamWSettings(weight_decay=0.03))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.03}


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_every_group_has_its_own_rate_times_the_factor(build_tiny: Callable, factor: float) -> None:
    optimizer = build_optimizer(build_tiny(0), AdamWSettings(lr=0.2, backbone_lr=0.03))
    set_rates(optimizer, 0.5)
    rates = set_rates(optimizer, factor)
    assert rates == {"backbone": pytest.approx(0.03 * factor), "rest": pytest.approx(0.2 * factor)}
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == rates


def test_a_backbone_that_is_frozen_as_a_whole_has_no_group(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    detector.body.requires_grad_(False)
    optimizer = build_optimizer(detector, AdamWSettings())
    assert list(set_rates(optimizer, 1.0)) == ["rest"]


def test_a_backbone_rate_of_0_leaves_the_backbone_alone(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    optimizer = build_optimizer(detector, AdamWSettings(backbone_lr=0, weight_decay=0.1))
    set_rates(optimizer, 1.0)
    body, head = (module.weight.detach().clone() for module in (detector.body[2], detector.head))
    detector.step(optimizer, 0)
    assert torch.equal(detector.body[2].weight, body)
    assert not torch.equal(detector.head.weight, head)


def test_sgd_moves_by_its_velocity(build_tiny: Callable) -> None:
    """Two steps with equal gradients, as its formula has them: v = momentum v + gradient, w = w - rate v."""
    detector = build_tiny(0)
    optimizer = build_optimizer(detector, SgdSettings(lr=0.5, momentum=0.75, weight_decay=0))
    before, gradient = detector.head.weight.detach().clone(), torch.ones_like(detector.head.weight)
    for _ in range(2):
        optimizer.zero_grad()
        detector.head.weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(detector.head.weight, before - 0.5 * (1 + 1.75) * gradient)


def test_sgd_leaves_an_update_out_that_is_told_to_be_infinite(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    optimizer = build_optimizer(detector, SgdSettings())
    detector.step(optimizer, 0)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    optimizer.found_inf = torch.ones(1)
    detector.step(optimizer, 1)
    assert all(torch.equal(*pair) for pair in zip(before, detector.parameters(), strict=True))
