import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detrkit.models.heads import Heads


def hidden() -> Tensor:
    return torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(0))


def heads() -> Heads:
    torch.manual_seed(0)
    return Heads(16, nn.Linear(16, 6))


def by_hand(built: Heads, reference: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    values = {name: value.numpy() for name, value in built.state_dict().items()}
    tokens = hidden().numpy()
    logits = tokens @ values["classes.weight"].T + values["classes.bias"]
    for layer in ("0", "2"):
        tokens = np.maximum(tokens @ values[f"boxes.{layer}.weight"].T + values[f"boxes.{layer}.bias"], 0)
    boxes = tokens @ values["boxes.4.weight"].T + values["boxes.4.bias"]
    return logits, 1 / (1 + np.exp(-(boxes + reference)))


def test_logits_are_linear_and_boxes_a_sigmoid_of_three_layers() -> None:
    logits, boxes = heads()(hidden())
    expected_logits, expected_boxes = by_hand(heads(), 0.0)
    np.testing.assert_allclose(logits.detach().numpy(), expected_logits, atol=1e-5)
    np.testing.assert_allclose(boxes.detach().numpy(), expected_boxes, atol=1e-5)


def test_a_reference_is_added_before_the_sigmoid() -> None:
    reference = 3 * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    logits, boxes = heads()(hidden(), reference)
    expected_logits, expected_boxes = by_hand(heads(), reference.numpy())
    np.testing.assert_allclose(logits.detach().numpy(), expected_logits, atol=1e-5)
    np.testing.assert_allclose(boxes.detach().numpy(), expected_boxes, atol=1e-5)


@pytest.mark.parametrize("incoming", [torch.float32, torch.bfloat16])
def test_autocast_does_not_reach_the_heads(incoming: torch.dtype) -> None:
    tokens = hidden().to(incoming)
    expected = heads()(tokens.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = heads()(tokens)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, wanted)
