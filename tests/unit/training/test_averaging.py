from collections.abc import Callable

import pytest
import torch
from torch import nn

from detrkit.training.averaging import Average


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.9999])
def test_the_average_follows_with_a_ramped_decay(build_tiny: Callable, decay: float) -> None:
    detector = build_tiny(0).double()
    average = Average(detector, decay)
    expected: list[list[float]] = [value.flatten().tolist() for value in detector.parameters()]
    torch.manual_seed(1)
    for updates in range(30):
        for parameter in detector.parameters():
            nn.init.normal_(parameter)
        average.update(detector, taken=next(detector.parameters()).new_ones(()))
        # The first update takes the weights as they are: the initial ones are not averaged in.
        kept = 0.0 if updates == 0 else min(decay, (1 + updates) / (10 + updates))
        expected = [
            [kept * old + (1 - kept) * new for old, new in zip(before, value.flatten().tolist(), strict=True)]
            for before, value in zip(expected, detector.parameters(), strict=True)
        ]
        for found, wanted in zip(average.module.parameters(), expected, strict=True):
            assert found.flatten().tolist() == pytest.approx(wanted, rel=1e-9)


def test_the_average_starts_as_the_detector_and_is_apart_from_it(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    average = Average(detector, 0.9)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in average.module.state_dict().items())
    assert average.module.categories == detector.categories


def test_the_statistics_of_the_average_are_the_detectors(build_tiny: Callable) -> None:
    detector = build_tiny(0)
    average = Average(detector, 0.9)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    for number in range(3):
        detector.step(optimizer, number)
        average.update(detector, taken=next(detector.parameters()).new_ones(()))
    statistics = detector.body[1].running_mean
    assert statistics.any()
    assert torch.equal(average.module.body[1].running_mean, statistics)
