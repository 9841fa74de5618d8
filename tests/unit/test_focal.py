"""The focal scoring against torchvision's loss and transformers' matcher and postprocessing."""

import math
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss
from transformers import ConditionalDetrImageProcessor
from transformers.loss import loss_deformable_detr
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher

from detrkit.objective.matching import match, matching_cost
from detrkit.objective.postprocess import postprocess
from detrkit.scoring import NO_OBJECT, Focal, Scoring, build_scoring
from detrkit.settings.objective import FocalSettings, MatchingSettings
from detrkit.structures import DetrOutput, Objects, Totals

LAYERS, IMAGES, QUERIES, CLASSES = 3, 4, 6, 5
TOTALS = Totals(images=IMAGES, boxes=2 * IMAGES, matched=2 * IMAGES)


@pytest.fixture
def focal() -> Scoring:
    return build_scoring(FocalSettings())


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(LAYERS, IMAGES, QUERIES, CLASSES, generator=generator, dtype=torch.float64) * 3


@pytest.fixture
def labels() -> Tensor:
    """Two queries of every image answer for an object, in every layer others."""
    generator = torch.Generator().manual_seed(1)
    wanted = torch.full((LAYERS, IMAGES, QUERIES), NO_OBJECT)
    wanted[..., :2] = torch.randint(CLASSES, (LAYERS, IMAGES, 2), generator=generator)
    order = torch.rand(LAYERS, IMAGES, QUERIES, generator=generator).argsort(-1)
    return wanted.gather(-1, order)


def one_hot(labels: Tensor) -> Tensor:
    """A row per query, of zeros where it answers for nothing."""
    return (labels[..., None] == torch.arange(CLASSES)).double()


def random_boxes(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre, size = torch.rand(2, *shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat([0.3 + 0.4 * centre, 0.05 + 0.4 * size], dim=-1)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.0), (0.1, 3.5), (0.5, 0.5)])
def test_loss_is_torchvisions_summed_over_queries_and_classes_per_object(
    logits: Tensor, labels: Tensor, alpha: float, gamma: float
) -> None:
    scoring = Focal(alpha, gamma, prior=0.01, detections=100)
    expected = [
        sigmoid_focal_loss(layer, one_hot(wanted), alpha=alpha, gamma=gamma, reduction="sum") / TOTALS.boxes
        for layer, wanted in zip(logits, labels, strict=True)
    ]
    torch.testing.assert_close(scoring.loss(logits, labels, TOTALS), torch.stack(expected))


def test_gradients_of_the_loss_are_torchvisions(focal: Scoring, logits: Tensor, labels: Tensor) -> None:
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    focal.loss(ours, labels, TOTALS).sum().backward()
    (sigmoid_focal_loss(theirs, one_hot(labels), reduction="sum") / TOTALS.boxes).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_losses_of_two_halves_sum_to_the_loss_of_the_whole(
    focal: Scoring, logits: Tensor, labels: Tensor
) -> None:
    halves = [focal.loss(logits[:, part], labels[:, part], TOTALS) for part in (slice(1), slice(1, None))]
    torch.testing.assert_close(sum(halves), focal.loss(logits, labels, TOTALS))


def test_loss_is_divided_by_objects_and_not_by_those_that_found_a_query(
    focal: Scoring, logits: Tensor, labels: Tensor
) -> None:
    once = focal.loss(logits, labels, Totals(IMAGES, boxes=8, matched=8))
    crowded = focal.loss(logits, labels, Totals(IMAGES, boxes=16, matched=8))
    torch.testing.assert_close(crowded, once / 2)


def test_loss_without_any_object_is_that_of_the_other_classes(focal: Scoring, logits: Tensor) -> None:
    nothing = torch.full((LAYERS, IMAGES, QUERIES), NO_OBJECT)
    probability = logits.sigmoid()
    expected = (0.75 * probability**2 * -(1 - probability).log()).sum((1, 2, 3))
    torch.testing.assert_close(focal.loss(logits, nothing, Totals(IMAGES, 0, 0)), expected)


@given(
    logit=st.floats(-1e4, 1e4, width=32),
    gamma=st.sampled_from([0.0, 0.25, 1.0, 2.0]),
    found=st.booleans(),
)
def test_loss_and_gradient_are_finite_however_sure_a_query_is(
    logit: float, gamma: float, found: bool
) -> None:
    logits = torch.full((1, 1, 1, 2), logit, requires_grad=True)
    labels = torch.tensor([[[0 if found else NO_OBJECT]]])
    loss = Focal(0.25, gamma, prior=0.01, detections=100).loss(logits, labels, Totals(1, 1, 1))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (loss >= 0).all()


def test_match_cost_is_that_of_transformers_matcher(focal: Scoring, logits: Tensor) -> None:
    labels = torch.tensor([[0, 4, 2], [1, 1, 0], [3, 0, 0], [4, 3, 2]])
    boxes, targets = random_boxes(2, LAYERS, IMAGES, QUERIES), random_boxes(3, IMAGES, 3)
    objects = [Objects(*image) for image in zip(targets, labels, strict=True)]
    settings = MatchingSettings(classification=2, l1=5, giou=2)
    found = matching_cost(logits, boxes, objects, focal, settings)
    pairs = match(logits, boxes, objects, focal, settings)
    for layer in range(LAYERS):
        costs, assigned = transformers_matches(logits[layer], boxes[layer], objects, settings)
        for image in range(IMAGES):
            np.testing.assert_allclose(found[layer, image].numpy(), costs[image], rtol=1e-9, atol=1e-9)
            here = pairs.image[layer] == image
            assert torch.equal(pairs.query[layer, here], assigned[image][0])
            assert torch.equal(pairs.target[layer, here] - 3 * image, assigned[image][1])


def transformers_matches(
    logits: Tensor, boxes: Tensor, objects: list[Objects], settings: MatchingSettings
) -> tuple[list[np.ndarray], list[tuple[Tensor, Tensor]]]:
    """The cost of every query and object of each image, and the matches, as transformers has them."""
    matcher = DeformableDetrHungarianMatcher(
        class_cost=settings.classification, bbox_cost=settings.l1, giou_cost=settings.giou
    )
    costs: list[np.ndarray] = []
    solve = loss_deformable_detr.linear_sum_assignment

    def spy(cost: Tensor) -> tuple[np.ndarray, np.ndarray]:
        costs.append(cost.numpy())
        return solve(cost)

    targets = [{"class_labels": image.labels, "boxes": image.boxes} for image in objects]
    with mock.patch.object(loss_deformable_detr, "linear_sum_assignment", spy):
        assigned = matcher({"logits": logits, "pred_boxes": boxes}, targets)
    return costs, assigned


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_match_cost_is_the_loss_of_a_match_less_that_of_none(gamma: float, logits: Tensor) -> None:
    scoring = Focal(0.3, gamma, prior=0.01, detections=100)
    one = Totals(1, 1, 1)
    for label in range(CLASSES):
        cost = scoring.match_cost(logits, torch.full((IMAGES, 1), label))
        for query in range(QUERIES):
            alone = logits[:, :1, query, None]
            mine = scoring.loss(alone, torch.full((LAYERS, 1, 1), label), one)
            none = scoring.loss(alone, torch.full((LAYERS, 1, 1), NO_OBJECT), one)
            # The logarithms of the cost have 1e-8 added to what they are taken of.
            torch.testing.assert_close(cost[:, 0, query, 0], mine - none, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 3, 91, 1203])
@pytest.mark.parametrize("prior", [0.01, 0.1, 0.5])
def test_every_class_starts_at_the_prior_whatever_their_number(num_classes: int, prior: float) -> None:
    torch.manual_seed(0)
    head = Focal(0.25, 2.0, prior, detections=100).class_head(64, num_classes)
    probability = head(torch.zeros(64)).sigmoid()
    assert probability.shape == (num_classes,)
    torch.testing.assert_close(probability, torch.full((num_classes,), prior))
    hidden = torch.nn.functional.layer_norm(torch.randn(200, 64), (64,))
    assert head(hidden).mean().sigmoid().item() == pytest.approx(prior, rel=0.2)


def test_there_is_one_logit_per_class(focal: Scoring) -> None:
    assert focal.num_logits(91) == 91
    assert focal.class_head(8, 91).weight.shape == (91, 8)


def test_the_best_class_is_the_likeliest_even_where_nothing_is_found(focal: Scoring) -> None:
    logits = torch.tensor([[[-1.0, -3.0], [0.5, 2.0], [-4.0, -3.5]]])
    assert focal.best(logits).tolist() == [[0, 1, 1]]


def test_a_query_finds_an_object_where_some_class_is_likelier_than_not(focal: Scoring) -> None:
    probabilities = torch.tensor([[[0.4, 0.3], [0.51, 0.1], [0.2, 0.9], [0.49, 0.49]]])
    assert focal.finds(probabilities.logit()).tolist() == [[False, True, True, False]]


def test_answers_are_the_likeliest_pairs_of_a_query_and_a_class() -> None:
    probabilities = torch.tensor(
        [
            [[0.9, 0.8, 0.1], [0.2, 0.7, 0.05]],
            [[0.01, 0.02, 0.03], [0.3, 0.6, 0.5]],
        ]
    )
    scores, labels, queries = Focal(0.25, 2.0, 0.01, detections=4).answer(probabilities.logit())
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.8, 0.7, 0.2], [0.6, 0.5, 0.3, 0.03]]))
    assert labels.tolist() == [[0, 1, 1, 0], [1, 2, 0, 2]]
    assert queries.tolist() == [[0, 0, 1, 1], [1, 1, 1, 0]]


@pytest.mark.parametrize("detections", [1, 7, QUERIES * CLASSES, 100])
def test_detections_are_those_of_transformers_postprocessing(logits: Tensor, detections: int) -> None:
    boxes = random_boxes(2, LAYERS, IMAGES, QUERIES)
    sizes = [(480, 640), (1000, 100), (7, 9), (333, 500)]
    output = DetrOutput(logits.float(), boxes.float())
    found = postprocess(output, sizes, Focal(0.25, 2.0, 0.01, detections))
    theirs = ConditionalDetrImageProcessor().post_process_object_detection(
        SimpleNamespace(logits=output.logits[-1], pred_boxes=output.boxes[-1]),
        threshold=0.0,
        target_sizes=sizes,
        top_k=detections,
    )
    for ours, expected in zip(found, theirs, strict=True):
        assert len(ours.scores) == min(detections, QUERIES * CLASSES)
        assert torch.equal(ours.labels, expected["labels"])
        torch.testing.assert_close(ours.scores, expected["scores"], rtol=0, atol=0)
        torch.testing.assert_close(ours.boxes, expected["boxes"])


def test_a_gamma_of_0_and_equal_weights_are_half_the_binary_cross_entropy() -> None:
    logits = torch.tensor([[[[0.0, 2.0], [-1.0, 3.0]]]])
    labels = torch.tensor([[[1, NO_OBJECT]]])
    entropy = [math.log1p(math.exp(wrong)) for wrong in (0.0, -2.0, -1.0, 3.0)]
    loss = Focal(0.5, 0.0, 0.01, 100).loss(logits, labels, Totals(1, 2, 1))
    assert loss.item() == pytest.approx(sum(entropy) / 2 / 2)
