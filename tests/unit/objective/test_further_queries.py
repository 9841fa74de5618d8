"""The loss of what only training answers: further groups of queries, and denoising queries."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from detrkit.objective.criterion import Criterion, count_totals
from detrkit.scoring import Focal, Scoring, Softmax
from detrkit.settings.objective import LossSettings, MatchingSettings
from detrkit.structures import Denoised, DetrOutput, Groups, Objects, Totals

LAYERS, IMAGES, QUERIES, CLASSES, GROUPS = 2, 4, 4, 3, 3
SCORINGS = {"softmax": Softmax(0.1), "focal": Focal(0.25, 2.0, 0.01, 100)}
WEIGHTS = {"classification": 2.0, "l1": 3.0, "giou": 7.0}


@pytest.fixture(params=SCORINGS)
def scoring(request: pytest.FixtureRequest) -> Scoring:
    return SCORINGS[request.param]


@pytest.fixture
def criterion(scoring: Scoring) -> Criterion:
    return Criterion(scoring, MatchingSettings(), LossSettings(**WEIGHTS))


def random_boxes(generator: torch.Generator, *shape: int) -> Tensor:
    centre, size = torch.rand(2, *shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat([0.3 + 0.4 * centre, 0.05 + 0.4 * size], dim=-1)


def answers(seed: int, scoring: Scoring, *shape: int) -> tuple[Tensor, Tensor]:
    """Logits and boxes at random."""
    generator = torch.Generator().manual_seed(seed)
    num_logits = scoring.num_logits(CLASSES)
    logits = torch.randn(*shape, num_logits, generator=generator, dtype=torch.float64)
    return logits, random_boxes(generator, *shape)


def truth(*counts: int) -> list[Objects]:
    generator = torch.Generator().manual_seed(1)
    return [
        Objects(random_boxes(generator, count), torch.randint(CLASSES, (count,), generator=generator))
        for count in counts
    ]


def output(scoring: Scoring) -> DetrOutput:
    return DetrOutput(*answers(0, scoring, LAYERS, IMAGES, QUERIES))


def groups(scoring: Scoring) -> Groups:
    return Groups(*answers(2, scoring, LAYERS, GROUPS, IMAGES, QUERIES))


def denoised(scoring: Scoring, target: list[int], positives: int, negatives: int, seed: int = 3) -> Denoised:
    """Answers at random to denoising queries of these targets."""
    return Denoised(
        *answers(seed, scoring, LAYERS, len(target)), torch.tensor(target).long(), positives, negatives
    )


COUNTS = (2, 0, 6, 1)
TWICE_WITH_NEGATIVES = [
    *(0, 1, -1, -1, 0, 1, -1, -1),
    *(2, 3, 4, 5, 6, 7, *[-1] * 6, 2, 3, 4, 5, 6, 7, *[-1] * 6),
    *(8, -1, 8, -1),
]
"""The targets of two positives and two negatives of every object, image after image."""


def test_terms_of_groups_are_the_mean_of_each_group_alone(criterion: Criterion, scoring: Scoring) -> None:
    objects, further = truth(*COUNTS), groups(scoring)
    totals = count_totals(objects, QUERIES)
    report = criterion(output(scoring)._replace(groups=further), objects, totals)
    alone = [
        criterion(DetrOutput(further.logits[:, group], further.boxes[:, group]), objects, totals).terms
        for group in range(GROUPS)
    ]
    for name in WEIGHTS:
        expected = torch.stack([terms[name] for terms in alone]).mean(0)
        torch.testing.assert_close(report.terms[f"group_{name}"], expected)


def test_groups_count_as_much_as_the_answers_and_change_none_of_their_terms(
    criterion: Criterion, scoring: Scoring
) -> None:
    objects = truth(*COUNTS)
    totals = count_totals(objects, QUERIES)
    without = criterion(output(scoring), objects, totals)
    within = criterion(output(scoring)._replace(groups=groups(scoring)), objects, totals)
    for name, values in without.terms.items():
        assert torch.equal(within.terms[name], values)
    added = sum(weight * within.terms[f"group_{name}"].sum() for name, weight in WEIGHTS.items())
    torch.testing.assert_close(within.total, without.total + added)


def test_denoising_counts_as_much_as_the_answers_and_changes_none_of_their_terms(
    criterion: Criterion, scoring: Scoring
) -> None:
    objects = truth(*COUNTS)
    totals = count_totals(objects, QUERIES)
    noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
    without = criterion(output(scoring), objects, totals)
    within = criterion(output(scoring)._replace(denoised=noisy), objects, totals)
    for name, values in without.terms.items():
        assert torch.equal(within.terms[name], values)
    added = sum(weight * within.terms[f"denoising_{name}"].sum() for name, weight in WEIGHTS.items())
    torch.testing.assert_close(within.total, without.total + added)


def box_terms(boxes: Tensor, wanted: Tensor) -> tuple[float, float]:
    """The mean L1 distance and 1 - generalised IoU of pairs of boxes."""
    corners = [box_convert(each, "cxcywh", "xyxy") for each in (boxes, wanted)]
    l1 = F.l1_loss(boxes, wanted, reduction="none").sum(-1).mean().item()
    return l1, generalized_box_iou_loss(*corners, reduction="mean").item()


def test_box_terms_of_denoising_are_means_over_the_positives(criterion: Criterion, scoring: Scoring) -> None:
    objects = truth(*COUNTS)
    noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
    report = criterion(output(scoring)._replace(denoised=noisy), objects, count_totals(objects, QUERIES))
    positive = noisy.target >= 0
    wanted = torch.cat([image.boxes for image in objects])[noisy.target[positive]]
    for layer in range(LAYERS):
        l1, giou = box_terms(noisy.boxes[layer, positive], wanted)
        assert report.terms["denoising_l1"][layer].item() == pytest.approx(l1, rel=1e-6)
        assert report.terms["denoising_giou"][layer].item() == pytest.approx(giou, rel=1e-5)


def test_focal_classification_of_denoising_is_torchvisions_per_positive() -> None:
    scoring, objects = SCORINGS["focal"], truth(*COUNTS)
    noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
    labels = torch.cat([image.labels for image in objects])
    wanted = F.one_hot(labels[noisy.target], CLASSES) * (noisy.target >= 0)[:, None]
    report = Criterion(scoring, MatchingSettings(), LossSettings())(
        output(scoring)._replace(denoised=noisy), objects, count_totals(objects, QUERIES)
    )
    for layer in range(LAYERS):
        loss = sigmoid_focal_loss(noisy.logits[layer], wanted.double(), reduction="sum")
        expected = loss.item() / (2 * sum(COUNTS))
        assert report.terms["denoising_classification"][layer].item() == pytest.approx(expected)


def test_softmax_classification_of_denoising_is_torchs_weighted_mean() -> None:
    scoring, objects = SCORINGS["softmax"], truth(*COUNTS)
    noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
    labels = torch.cat([image.labels for image in objects])
    wanted = torch.where(noisy.target >= 0, labels[noisy.target], CLASSES)
    weight = torch.tensor([1.0] * CLASSES + [0.1], dtype=torch.float64)
    report = Criterion(scoring, MatchingSettings(), LossSettings())(
        output(scoring)._replace(denoised=noisy), objects, count_totals(objects, QUERIES)
    )
    for layer in range(LAYERS):
        expected = F.cross_entropy(noisy.logits[layer], wanted, weight=weight)
        assert report.terms["denoising_classification"][layer].item() == pytest.approx(expected.item())


def test_two_denoising_queries_by_hand() -> None:
    """One object, one query that must find it back, and one that must answer 'nothing'."""
    objects = [Objects(torch.tensor([[0.5, 0.5, 0.4, 0.2]]), torch.tensor([1]))]
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]]])
    noisy = Denoised(logits, boxes, torch.tensor([0, -1]), positives=1, negatives=1)
    answer = DetrOutput(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1, 4), 0.5), denoised=noisy)
    report = Criterion(SCORINGS["focal"], MatchingSettings(), LossSettings())(
        answer, objects, Totals(images=1, boxes=1, matched=1)
    )
    log_2 = torch.tensor(2.0).log().item()
    # Half the object's width is covered, and the enclosing box is the object: IoU = GIoU = 1 / 2.
    assert report.terms["denoising_l1"].tolist() == pytest.approx([0.2])
    assert report.terms["denoising_giou"].tolist() == pytest.approx([0.5])
    # Every miss is 1 / 2: one true class, and three that are not.
    assert report.terms["denoising_classification"].tolist() == pytest.approx(
        [(0.25 + 3 * 0.75) * 0.25 * log_2]
    )


def halves(whole: DetrOutput, split: int) -> list[DetrOutput]:
    """The answers for the first images and for the others; targets count from the first object of each."""
    assert whole.groups is not None
    assert whole.denoised is not None
    noisy = whole.denoised
    queries = sum(4 * count for count in COUNTS[:split])
    objects = sum(COUNTS[:split])
    parts = []
    for images, rows, offset in (
        (slice(split), slice(queries), 0),
        (slice(split, None), slice(queries, None), objects),
    ):
        target = noisy.target[rows]
        parts.append(
            DetrOutput(
                whole.logits[:, images],
                whole.boxes[:, images],
                Groups(whole.groups.logits[:, :, images], whole.groups.boxes[:, :, images]),
                noisy._replace(
                    logits=noisy.logits[:, rows],
                    boxes=noisy.boxes[:, rows],
                    target=torch.where(target >= 0, target - offset, target),
                ),
            )
        )
    return parts


@pytest.mark.parametrize("split", [1, 2, 3])
def test_reports_of_the_parts_of_a_step_sum_to_that_of_the_whole(
    criterion: Criterion, scoring: Scoring, split: int
) -> None:
    objects = truth(*COUNTS)
    totals = count_totals(objects, QUERIES)
    noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
    whole = output(scoring)._replace(groups=groups(scoring), denoised=noisy)
    report = criterion(whole, objects, totals)
    parts = [
        criterion(part, truth_of_part, totals)
        for part, truth_of_part in zip(halves(whole, split), (objects[:split], objects[split:]), strict=True)
    ]
    torch.testing.assert_close(sum(part.total for part in parts), report.total)
    assert len(report.terms) == 3 * len(WEIGHTS) + 2
    for name, values in report.terms.items():
        torch.testing.assert_close(sum(part.terms[name] for part in parts), values)


def test_without_objects_denoising_costs_nothing_and_groups_teach_their_classes_only(
    criterion: Criterion, scoring: Scoring
) -> None:
    objects, further = truth(0, 0, 0, 0), groups(scoring)
    noisy = denoised(scoring, [], positives=2, negatives=2)
    for part in (*further, noisy.logits, noisy.boxes):
        part.requires_grad_()
    whole = output(scoring)._replace(groups=further, denoised=noisy)
    report = criterion(whole, objects, count_totals(objects, QUERIES))
    report.total.backward()
    assert torch.isfinite(report.total)
    for name in WEIGHTS:
        assert report.terms[f"denoising_{name}"].tolist() == [0] * LAYERS
    assert further.boxes.grad is not None
    assert not further.boxes.grad.any()
    assert further.logits.grad is not None
    assert further.logits.grad.abs().amin((1, 2, 3)).min() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_terms_of_groups_and_denoising_are_computed_in_float32(
    criterion: Criterion, scoring: Scoring, dtype: torch.dtype
) -> None:
    objects = [Objects(image.boxes.float(), image.labels) for image in truth(*COUNTS)]
    totals = count_totals(objects, QUERIES)

    def report(*types: torch.dtype) -> dict[str, Tensor]:
        def cast(part: Tensor) -> Tensor:
            for each in types:
                part = part.to(each)
            return part

        noisy = denoised(scoring, TWICE_WITH_NEGATIVES, positives=2, negatives=2)
        noisy = noisy._replace(logits=cast(noisy.logits), boxes=cast(noisy.boxes))
        further = Groups(*map(cast, groups(scoring)))
        answer = DetrOutput(*map(cast, output(scoring)[:2]), groups=further, denoised=noisy)
        return criterion(answer, objects, totals).terms

    narrow, widened = report(dtype), report(dtype, torch.float32)
    for name, values in widened.items():
        assert torch.equal(narrow[name], values), name
