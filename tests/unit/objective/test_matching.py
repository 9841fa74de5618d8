from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import ops

from detrkit.objective.matching import NonFiniteCostError, assign, match, matching_cost
from detrkit.scoring import Softmax
from detrkit.settings.objective import MatchingSettings
from detrkit.structures import Matches, Objects

LAYERS, CLASSES = 2, 4
SCORING = Softmax(0.1)


def predictions(images: int, queries: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(queries)
    logits = 2 * torch.randn(LAYERS, images, queries, CLASSES + 1, generator=generator)
    return logits, random_boxes(generator, LAYERS, images, queries)


def objects(*counts: int) -> list[Objects]:
    """Objects at random, those of an image of different classes, so that no two matchings cost the same."""
    generator = torch.Generator().manual_seed(7)
    return [
        Objects(random_boxes(generator, count), torch.randperm(CLASSES, generator=generator)[:count])
        for count in counts
    ]


def random_boxes(generator: torch.Generator, *shape: int) -> Tensor:
    centre, size = torch.rand(2, *shape, 2, generator=generator)
    return torch.cat([0.3 + 0.4 * centre, 0.05 + 0.4 * size], dim=-1)


def cost_by_hand(logits: Tensor, boxes: Tensor, image: Objects, settings: MatchingSettings) -> np.ndarray:
    """(queries, objects), of one layer and image, from the paper's formula and torchvision."""
    probability = torch.from_numpy(np.exp(logits.numpy()))
    probability = probability / probability.sum(-1, keepdim=True)
    l1 = (boxes[:, None] - image.boxes[None]).abs().sum(-1)
    corners = [ops.box_convert(each, "cxcywh", "xyxy") for each in (boxes, image.boxes)]
    giou = ops.generalized_box_iou(*corners)
    cost = settings.l1 * l1 - settings.giou * giou - settings.classification * probability[:, image.labels]
    return cost.numpy()


def cheapest(cost: np.ndarray) -> set[tuple[int, int]]:
    """(query, object) pairs, by trying all of them."""
    queries, count = cost.shape
    if queries < count:
        return {(query, number) for number, query in cheapest(cost.T)}
    best = min(
        permutations(range(queries), count),
        key=lambda chosen: sum(cost[query, number] for number, query in enumerate(chosen)),
    )
    return {(query, number) for number, query in enumerate(best)}


def pairs_of(matches: Matches, layer: int, image: int, offset: int) -> set[tuple[int, int]]:
    chosen = matches.image[layer] == image
    queries, targets = matches.query[layer][chosen], matches.target[layer][chosen] - offset
    return set(zip(queries.tolist(), targets.tolist(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        MatchingSettings(),
        MatchingSettings(classification=3, l1=0, giou=0),
        MatchingSettings(classification=0, l1=1, giou=0),
        MatchingSettings(classification=0, l1=0, giou=1),
    ],
    ids=["default", "class", "l1", "giou"],
)
@pytest.mark.parametrize("queries", [5, 2], ids=["more queries than objects", "more objects than queries"])
def test_pairs_are_the_cheapest_of_every_layer_and_image(settings: MatchingSettings, queries: int) -> None:
    counts = [3, 0, 4, 1]
    logits, boxes = predictions(len(counts), queries)
    truth = objects(*counts)
    matches = match(logits, boxes, truth, SCORING, settings)
    assert matches.query.shape == (LAYERS, sum(min(count, queries) for count in counts))
    offsets = np.cumsum([0, *counts])
    for layer in range(LAYERS):
        for image in range(len(counts)):
            cost = cost_by_hand(logits[layer, image], boxes[layer, image], truth[image], settings)
            assert pairs_of(matches, layer, image, int(offsets[image])) == cheapest(cost)


def test_cost_is_that_of_the_paper_for_each_images_own_objects() -> None:
    settings, truth = MatchingSettings(), objects(3, 1)
    logits, boxes = predictions(2, 5)
    cost = matching_cost(logits, boxes, truth, SCORING, settings)
    # An image is never compared with the objects of the others: the cost is as wide as the fullest image.
    assert cost.shape == (LAYERS, 2, 5, 3)
    for layer in range(LAYERS):
        for image, count in enumerate([3, 1]):
            expected = cost_by_hand(logits[layer, image], boxes[layer, image], truth[image], settings)
            np.testing.assert_allclose(cost[layer, image, :, :count].numpy(), expected, atol=1e-5)


def test_a_batch_without_objects_has_no_pairs() -> None:
    matches = match(*predictions(3, 4), objects(0, 0, 0), SCORING, MatchingSettings())
    assert [index.shape for index in matches] == [(LAYERS, 0)] * 3
    assert {index.dtype for index in matches} == {torch.int64}


def test_a_target_is_counted_through_the_batch() -> None:
    cost = np.zeros((1, 3, 2, 2), dtype=np.float32)
    cost[0, 0] = [[1, 0], [0, 1]]
    cost[0, 2] = [[0, 9], [1, 9]]
    matches = assign(cost, [2, 0, 1], torch.device("cpu"))
    found = set(
        zip(matches.image[0].tolist(), matches.query[0].tolist(), matches.target[0].tolist(), strict=True)
    )
    assert found == {(0, 0, 1), (0, 1, 0), (2, 0, 2)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_whose_predictions_are_not_finite_are_named(value: float) -> None:
    logits, boxes = predictions(4, 3)
    logits[1, 0, 2] = float("nan")
    boxes[0, 3, 1, 0] = value
    with pytest.raises(NonFiniteCostError, match=r"\[0, 3\]") as caught:
        match(logits, boxes, objects(1, 2, 0, 2), SCORING, MatchingSettings())
    assert caught.value.images == [0, 3]


def test_images_whose_objects_are_not_finite_are_named() -> None:
    truth = objects(2, 2)
    truth[1].boxes[0, 2] = float("nan")
    with pytest.raises(NonFiniteCostError) as caught:
        match(*predictions(2, 3), truth, SCORING, MatchingSettings())
    assert caught.value.images == [1]


def test_matching_needs_no_gradient() -> None:
    logits, boxes = predictions(1, 3)
    boxes.requires_grad_()
    matches = match(logits.requires_grad_(), boxes, objects(2), SCORING, MatchingSettings())
    assert not any(index.requires_grad for index in matches)
