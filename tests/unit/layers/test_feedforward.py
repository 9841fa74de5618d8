import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detrkit.layers.feedforward import FeedForward, Residual

WIDTH = 16


def tokens() -> Tensor:
    return torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def normalised(values: np.ndarray, residual: Residual) -> np.ndarray:
    centred = values - values.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * residual.norm.weight.detach().numpy() + residual.norm.bias.detach().numpy()


def residual(pre_norm: bool, dropout: float = 0.0) -> Residual:
    torch.manual_seed(0)
    built = Residual(WIDTH, dropout, pre_norm).double()
    torch.nn.init.normal_(built.norm.weight)
    torch.nn.init.normal_(built.norm.bias)
    return built


def test_feedforward_is_a_rectified_hidden_layer_between_two_linear_maps() -> None:
    torch.manual_seed(0)
    feedforward = FeedForward(WIDTH, 40, dropout=0.5).double().eval()
    values = {name: value.numpy() for name, value in feedforward.state_dict().items()}
    first_weight, first_bias, second_weight, second_bias = values.values()
    assert first_weight.shape == (40, WIDTH)
    hidden = np.maximum(tokens().numpy() @ first_weight.T + first_bias, 0)
    np.testing.assert_allclose(
        feedforward(tokens()).detach().numpy(), hidden @ second_weight.T + second_bias, atol=1e-12
    )


def test_feedforward_weights_start_as_xaviers() -> None:
    torch.manual_seed(0)
    feedforward = FeedForward(128, 512, dropout=0.0)
    for weight in (value for value in feedforward.parameters() if value.ndim == 2):
        assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / (128 + 512)), rel=1e-3)


def test_post_norm_normalises_the_sum() -> None:
    branch, values = residual(pre_norm=False), tokens().numpy()
    expected = normalised(values + np.tanh(values), branch)
    np.testing.assert_allclose(branch(tokens(), torch.tanh).detach().numpy(), expected, atol=1e-12)


def test_pre_norm_normalises_what_the_branch_sees() -> None:
    branch, values = residual(pre_norm=True), tokens().numpy()
    expected = values + np.tanh(normalised(values, branch))
    np.testing.assert_allclose(branch(tokens(), torch.tanh).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_branch_is_dropped_in_training_only(pre_norm: bool) -> None:
    branch = residual(pre_norm, dropout=0.5)
    assert not torch.equal(branch(tokens(), torch.tanh), branch(tokens(), torch.tanh))
    branch.eval()
    assert torch.equal(branch(tokens(), torch.tanh), residual(pre_norm)(tokens(), torch.tanh))


def test_a_dropped_branch_leaves_the_tokens_themselves() -> None:
    branch = residual(pre_norm=True, dropout=0.5)
    change = branch(tokens(), torch.ones_like) - tokens()
    assert set(change.round(decimals=9).flatten().tolist()) == {0.0, 2.0}
