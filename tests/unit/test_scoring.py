import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detrkit.scoring import NO_OBJECT, Scoring, Softmax, build_scoring
from detrkit.settings.objective import SoftmaxSettings
from detrkit.structures import Totals

LAYERS, IMAGES, QUERIES, CLASSES = 3, 4, 6, 5


@pytest.fixture
def softmax() -> Scoring:
    return build_scoring(SoftmaxSettings(no_object=0.1))


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(LAYERS, IMAGES, QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64) * 3


@pytest.fixture
def labels() -> Tensor:
    """Two queries of every image answer for an object, in every layer others."""
    generator = torch.Generator().manual_seed(1)
    wanted = torch.full((LAYERS, IMAGES, QUERIES), NO_OBJECT)
    wanted[..., :2] = torch.randint(CLASSES, (LAYERS, IMAGES, 2), generator=generator)
    order = torch.rand(LAYERS, IMAGES, QUERIES, generator=generator).argsort(-1)
    return wanted.gather(-1, order)


TOTALS = Totals(images=IMAGES, boxes=2 * IMAGES, matched=2 * IMAGES)


def test_there_is_one_logit_more_than_classes(softmax: Scoring) -> None:
    assert softmax.num_logits(91) == 92


def test_loss_is_torchs_weighted_cross_entropy_of_every_layer(
    softmax: Scoring, logits: Tensor, labels: Tensor
) -> None:
    weight = torch.ones(CLASSES + 1, dtype=torch.float64)
    weight[-1] = 0.1
    classes = torch.where(labels == NO_OBJECT, CLASSES, labels)
    expected = [
        F.cross_entropy(layer.flatten(0, 1), wanted.flatten(), weight=weight)
        for layer, wanted in zip(logits, classes, strict=True)
    ]
    torch.testing.assert_close(
        softmax.loss(logits, labels, TOTALS), torch.stack(expected), rtol=1e-12, atol=0
    )


def test_losses_of_two_halves_sum_to_the_loss_of_the_whole(
    softmax: Scoring, logits: Tensor, labels: Tensor
) -> None:
    whole = softmax.loss(logits, labels, TOTALS)
    halves = softmax.loss(logits[:, :1], labels[:, :1], TOTALS) + softmax.loss(
        logits[:, 1:], labels[:, 1:], TOTALS
    )
    torch.testing.assert_close(halves, whole)


def test_loss_without_any_object_is_the_plain_mean(softmax: Scoring, logits: Tensor) -> None:
    nothing = torch.full((LAYERS, IMAGES, QUERIES), NO_OBJECT)
    expected = -logits.log_softmax(-1)[..., -1].mean((1, 2))
    torch.testing.assert_close(softmax.loss(logits, nothing, Totals(IMAGES, 0, 0)), expected)


def test_match_cost_is_minus_the_probability_of_the_objects_class(softmax: Scoring, logits: Tensor) -> None:
    labels = torch.tensor([[0, 4, 2], [1, 1, 0], [3, 0, 0], [4, 3, 2]])
    cost = softmax.match_cost(logits, labels).numpy()
    assert cost.shape == (LAYERS, IMAGES, QUERIES, 3)
    exponential = np.exp(logits.numpy())
    probability = exponential / exponential.sum(-1, keepdims=True)
    for image in range(IMAGES):
        for number in range(3):
            np.testing.assert_allclose(
                cost[:, image, :, number], -probability[:, image, :, labels[image, number]]
            )


def test_the_best_class_may_be_no_object(softmax: Scoring) -> None:
    logits = torch.tensor([[[0.0, 1.0, 0.5], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]])
    assert softmax.best(logits).tolist() == [[1, 0, NO_OBJECT]]


def test_answers_are_sorted_best_first_and_never_no_object(softmax: Scoring) -> None:
    probabilities = torch.tensor(
        [
            [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9], [0.2, 0.3, 0.5]],
            [[0.3, 0.1, 0.6], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.45, 0.4, 0.15]],
        ]
    )
    scores, labels, queries = softmax.answer(probabilities.log())
    torch.testing.assert_close(scores, torch.tensor([[0.6, 0.3, 0.2, 0.05], [0.8, 0.45, 0.3, 0.2]]))
    assert labels.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    assert queries.tolist() == [[1, 3, 0, 2], [2, 3, 0, 1]]


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_the_weight_of_no_object_is_that_of_the_settings(weight: float) -> None:
    scoring = build_scoring(SoftmaxSettings(no_object=weight))
    assert isinstance(scoring, Softmax)
    logits = torch.tensor([[[[0.0, 2.0], [0.0, -1.0]]]])
    labels = torch.tensor([[[0, NO_OBJECT]]])
    entropy = -logits.log_softmax(-1)
    expected = (entropy[..., 0, 0] + weight * entropy[..., 1, 1]) / (1 + weight)
    torch.testing.assert_close(scoring.loss(logits, labels, Totals(1, 1, 1)), expected[0])
