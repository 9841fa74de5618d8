import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from detrkit.objective.losses import box_losses, cardinality_error, class_error, targets_of_queries
from detrkit.scoring import NO_OBJECT, Softmax
from detrkit.structures import Matches, Totals

SOFTMAX = Softmax(0.1)


def random_boxes(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre, size = torch.rand(2, *shape, 2, generator=generator)
    return torch.cat([0.3 + 0.4 * centre, 0.05 + 0.4 * size], dim=-1)


# Two layers, two images with one and two objects, three queries.
MATCHES = Matches(
    image=torch.tensor([[0, 1, 1], [0, 1, 1]]),
    query=torch.tensor([[2, 0, 1], [0, 1, 2]]),
    target=torch.tensor([[0, 2, 1], [0, 1, 2]]),
)
TOTALS = Totals(images=2, boxes=3, matched=3)


def likely(labels: list[list[int]]) -> Tensor:
    """Logits of one layer that decide for these labels, -1 being 'no object', among 3 classes."""
    index = torch.tensor(labels)
    return F.one_hot(torch.where(index < 0, 3, index), 4)[None].float()


def test_box_losses_of_every_layer_are_those_of_torch_and_torchvision() -> None:
    boxes, targets = random_boxes(0, 2, 2, 3), random_boxes(1, 3)
    l1, giou = box_losses(boxes, targets, MATCHES, TOTALS)
    for layer in range(2):
        predicted = boxes[layer, MATCHES.image[layer], MATCHES.query[layer]]
        wanted = targets[MATCHES.target[layer]]
        assert l1[layer].item() == pytest.approx(F.l1_loss(predicted, wanted, reduction="sum").item() / 3)
        corners = [ops.box_convert(each, "cxcywh", "xyxy") for each in (predicted, wanted)]
        expected = ops.generalized_box_iou_loss(*corners, reduction="sum") / 3
        assert giou[layer].item() == pytest.approx(expected.item(), rel=1e-5)


def test_box_losses_are_divided_by_the_boxes_of_the_step() -> None:
    boxes, targets = random_boxes(0, 2, 2, 3), random_boxes(1, 3)
    once = box_losses(boxes, targets, MATCHES, TOTALS)
    twice = box_losses(boxes, targets, MATCHES, TOTALS._replace(boxes=6))
    for whole, half in zip(once, twice, strict=True):
        torch.testing.assert_close(half, whole / 2)


def test_no_boxes_cost_nothing_and_have_a_gradient() -> None:
    boxes = random_boxes(0, 2, 2, 3).requires_grad_()
    nothing = Matches(*(torch.zeros(2, 0, dtype=torch.int64) for _ in range(3)))
    l1, giou = box_losses(boxes, torch.zeros(0, 4), nothing, Totals(2, 0, 0))
    assert l1.tolist() == giou.tolist() == [0, 0]
    (l1 + giou).sum().backward()
    assert boxes.grad is not None
    assert not boxes.grad.any()


def test_a_query_answers_for_its_objects_class_or_for_nothing() -> None:
    wanted = targets_of_queries(torch.tensor([7, 8, 9]), MATCHES, like=torch.zeros(2, 2, 3, 11))
    assert wanted.tolist() == [
        [[NO_OBJECT, NO_OBJECT, 7], [9, 8, NO_OBJECT]],
        [[7, NO_OBJECT, NO_OBJECT], [NO_OBJECT, 8, 9]],
    ]


def test_class_error_is_the_percentage_of_matched_queries_with_a_wrong_class() -> None:
    wanted = torch.tensor([[[0, NO_OBJECT, 1], [2, 2, NO_OBJECT]]])
    logits = likely([[0, 1, 2], [NO_OBJECT, 2, NO_OBJECT]])
    error = class_error(logits, wanted, SOFTMAX, Totals(images=2, boxes=4, matched=4))
    assert error.tolist() == [50]


def test_class_error_of_nothing_is_0() -> None:
    wanted = torch.full((1, 1, 2), NO_OBJECT)
    assert class_error(likely([[0, 1]]), wanted, SOFTMAX, Totals(1, 0, 0)).tolist() == [0]


def test_cardinality_error_is_by_how_many_objects_an_image_is_off() -> None:
    logits = likely([[0, 1, 2], [NO_OBJECT, 2, NO_OBJECT], [NO_OBJECT, NO_OBJECT, NO_OBJECT]])
    counts = torch.tensor([1, 4, 0])
    error = cardinality_error(logits, counts, SOFTMAX, Totals(images=3, boxes=5, matched=5))
    assert error.tolist() == [pytest.approx((2 + 3 + 0) / 3)]
