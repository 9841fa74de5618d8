"""The share that is dropped and the mean are those of the definition; on a CPU there is code of our own."""

import pytest
import torch

from detrkit.layers.dropout import Dropout, drop, rectify_and_drop


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped(dtype: torch.dtype, probability: float) -> None:
    torch.manual_seed(0)
    rounding = {torch.float64: 2**-13, torch.float32: 2**-13, torch.bfloat16: 2**-8}
    values = torch.ones(401, 499, dtype=dtype)
    found = drop(values, probability)
    kept = found != 0
    deviation = (probability * (1 - probability) / values.numel()) ** 0.5
    assert (~kept).double().mean().item() == pytest.approx(probability, abs=4 * deviation + 2**-17)
    assert found[kept].unique().item() == pytest.approx(1 / (1 - probability), rel=rounding[dtype])


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (drop(torch.ones(400_000), 0.5) == 0).double()
    for distance in (1, 2, 3, 4, 8):
        together = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert together == pytest.approx(0.25, abs=0.004)


def test_gradients_pass_where_values_do() -> None:
    torch.manual_seed(0)
    values = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    found = drop(values, 0.3)
    found.sum().backward()
    torch.testing.assert_close(values.grad * values.detach(), found.detach())


def test_the_seed_decides() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return drop(torch.ones(1000), 0.5)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_nothing_is_dropped_in_evaluation_or_with_probability_0() -> None:
    values = torch.randn(5, 7)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(drop(values, 0.0), values)


def test_rectified_values_are_those_of_relu_and_dropout() -> None:
    values = torch.randn(500, 40, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    found = rectify_and_drop(values, 0.3)
    (gradient,) = torch.autograd.grad(found.square().sum(), values)
    torch.manual_seed(0)
    expected = drop(values.relu(), 0.3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), values)[0])
    assert torch.autograd.gradcheck(_seeded, values[:3].detach().requires_grad_())


def _seeded(values: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    return rectify_and_drop(values, 0.3)


def test_rectified_values_without_dropout_are_relus() -> None:
    values = torch.randn(50, 40)
    assert torch.equal(Dropout(0.3, rectify=True).eval()(values), values.relu())
