import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torchvision import ops

from detrkit import boxes


def xyxy_boxes(count: int) -> st.SearchStrategy[Tensor]:
    corners = arrays(np.float64, (count, 2), elements=st.floats(-10, 10))
    sizes = arrays(np.float64, (count, 2), elements=st.floats(0.01, 10))
    return st.tuples(corners, sizes).map(
        lambda parts: torch.from_numpy(np.concatenate([parts[0], parts[0] + parts[1]], axis=1))
    )


def random_boxes(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    low, size = torch.rand(2, *shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat([low, low + size + 0.01], dim=-1)


@settings(max_examples=30, deadline=None)
@given(xyxy_boxes(4))
def test_conversions_agree_with_torchvision_and_undo_each_other(corners: Tensor) -> None:
    centred = boxes.xyxy_to_cxcywh(corners)
    torch.testing.assert_close(centred, ops.box_convert(corners, "xyxy", "cxcywh"))
    torch.testing.assert_close(
        boxes.cxcywh_to_xyxy(centred), ops.box_convert(centred, "cxcywh", "xyxy"), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(boxes.cxcywh_to_xyxy(centred), corners, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(xyxy_boxes(4))
def test_area_agrees_with_torchvision(corners: Tensor) -> None:
    torch.testing.assert_close(boxes.area(corners), ops.box_area(corners))


@settings(max_examples=30, deadline=None)
@given(xyxy_boxes(3), xyxy_boxes(5))
def test_pairwise_overlap_agrees_with_torchvision(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(boxes.pairwise_iou(a, b), ops.box_iou(a, b))
    torch.testing.assert_close(boxes.pairwise_giou(a, b), ops.generalized_box_iou(a, b))


@settings(max_examples=30, deadline=None)
@given(xyxy_boxes(4), xyxy_boxes(4))
def test_paired_overlap_is_the_diagonal_of_the_pairwise_one(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(boxes.paired_iou(a, b), ops.box_iou(a, b).diagonal())
    torch.testing.assert_close(boxes.paired_giou(a, b), ops.generalized_box_iou(a, b).diagonal())


@settings(max_examples=30, deadline=None)
@given(xyxy_boxes(3), xyxy_boxes(5))
def test_overlap_stays_in_its_range(a: Tensor, b: Tensor) -> None:
    iou, giou = boxes.pairwise_iou(a, b), boxes.pairwise_giou(a, b)
    assert ((iou >= 0) & (iou <= 1 + 1e-12)).all()
    assert ((giou > -1) & (giou <= iou + 1e-12)).all()


@pytest.mark.parametrize(
    ("ours", "oracle"),
    [(boxes.pairwise_iou, ops.box_iou), (boxes.pairwise_giou, ops.generalized_box_iou)],
    ids=["iou", "giou"],
)
def test_every_layer_is_compared_with_the_boxes_of_its_own_image(ours, oracle) -> None:
    predicted, targets = random_boxes(2, 3, 4), random_boxes(3, 5)
    found = ours(predicted, targets[None])
    assert found.shape == (2, 3, 4, 5)
    for layer in range(2):
        for image in range(3):
            torch.testing.assert_close(found[layer, image], oracle(predicted[layer, image], targets[image]))


def test_shapes_of_partners_broadcast() -> None:
    many, one = random_boxes(4, 3), random_boxes(1, 3)
    torch.testing.assert_close(
        boxes.paired_giou(many, one),
        torch.stack([ops.generalized_box_iou(row, one[0]).diagonal() for row in many]),
    )


def test_no_boxes_have_no_overlap() -> None:
    assert boxes.pairwise_giou(random_boxes(2, 3), torch.zeros(2, 0, 4, dtype=torch.float64)).shape == (
        2,
        3,
        0,
    )


@pytest.mark.parametrize(
    ("other", "iou", "giou"),
    [
        ([0.0, 0.0, 1.0, 1.0], 1.0, 1.0),
        ([1.0, 0.0, 2.0, 1.0], 0.0, 0.0),
        ([2.0, 0.0, 3.0, 1.0], 0.0, -1 / 3),
        ([0.5, 0.0, 1.5, 1.0], 1 / 3, 1 / 3),
        ([1.0, 1.0, 2.0, 2.0], 0.0, -1 / 2),
        ([0.25, 0.25, 0.75, 0.75], 1 / 4, 1 / 4),
    ],
    ids=["same", "touching", "apart", "half", "corner", "inside"],
)
def test_overlap_with_the_unit_square_and_its_finite_gradient(
    other: list[float], iou: float, giou: float
) -> None:
    square = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    moved = torch.tensor([other], requires_grad=True)
    assert boxes.paired_iou(square, moved).item() == pytest.approx(iou)
    overlap = boxes.paired_giou(square, moved)
    assert overlap.item() == pytest.approx(giou)
    overlap.sum().backward()
    assert moved.grad is not None
    assert torch.isfinite(moved.grad).all()


def test_generalised_overlap_pulls_boxes_together_that_do_not_meet() -> None:
    square = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    away = torch.tensor([[2.0, 0.0, 3.0, 1.0]], requires_grad=True)
    boxes.paired_giou(square, away).sum().backward()
    assert away.grad is not None
    assert away.grad[0, 0] < 0
