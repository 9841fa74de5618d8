import pytest
import torch
from torch import Tensor

from detrkit.objective.criterion import Criterion, count_totals
from detrkit.scoring import Softmax
from detrkit.settings.objective import LossSettings, MatchingSettings
from detrkit.structures import DetrOutput, Objects, Totals

LAYERS, QUERIES, CLASSES = 2, 4, 3


def criterion(**weights: float) -> Criterion:
    return Criterion(Softmax(0.1), MatchingSettings(), LossSettings(**weights))


def random_boxes(generator: torch.Generator, *shape: int) -> Tensor:
    centre, size = torch.rand(2, *shape, 2, generator=generator)
    return torch.cat([0.3 + 0.4 * centre, 0.05 + 0.4 * size], dim=-1)


def output(images: int) -> DetrOutput:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(LAYERS, images, QUERIES, CLASSES + 1, generator=generator)
    return DetrOutput(
        logits.requires_grad_(), random_boxes(generator, LAYERS, images, QUERIES).requires_grad_()
    )


def objects(*counts: int) -> list[Objects]:
    generator = torch.Generator().manual_seed(1)
    return [
        Objects(random_boxes(generator, count), torch.randint(CLASSES, (count,), generator=generator))
        for count in counts
    ]


def part(whole: DetrOutput, images: slice) -> DetrOutput:
    return DetrOutput(whole.logits[:, images], whole.boxes[:, images])


@pytest.mark.parametrize("split", [1, 2, 3])
def test_reports_of_the_parts_of_a_step_sum_to_that_of_the_whole(split: int) -> None:
    whole, truth = output(4), objects(2, 0, 6, 1)
    totals = count_totals(truth, QUERIES)
    report = criterion()(whole, truth, totals)
    parts = [
        criterion()(part(whole, images), truth[images], totals)
        for images in (slice(0, split), slice(split, 4))
    ]
    torch.testing.assert_close(sum(each.total for each in parts), report.total)
    for name, values in report.terms.items():
        torch.testing.assert_close(sum(each.terms[name] for each in parts), values)


def test_the_total_is_the_weighted_sum_over_terms_and_layers() -> None:
    truth = objects(2, 1)
    totals = count_totals(truth, QUERIES)
    report = criterion(classification=2, l1=3, giou=7)(output(2), truth, totals)
    expected = sum(
        weight * report.terms[name].sum() for name, weight in (("classification", 2), ("l1", 3), ("giou", 7))
    )
    torch.testing.assert_close(report.total.detach(), expected)
    assert set(report.terms) == {"classification", "l1", "giou", "class_error", "cardinality_error"}
    for values in report.terms.values():
        assert values.shape == (LAYERS,)
        assert not values.requires_grad


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    truth = objects(3)
    logits = torch.zeros(LAYERS, 1, QUERIES, CLASSES + 1)
    boxes = torch.full((LAYERS, 1, QUERIES, 4), 0.9)
    # The objects are answered by the queries in reverse order, and the first query is left over.
    for number in range(3):
        logits[:, 0, QUERIES - 1 - number, truth[0].labels[number]] = 30
        boxes[:, 0, QUERIES - 1 - number] = truth[0].boxes[number]
    logits[:, 0, 0, CLASSES] = 30
    report = criterion()(DetrOutput(logits, boxes), truth, count_totals(truth, QUERIES))
    assert report.total.item() == pytest.approx(0, abs=1e-5)
    assert report.terms["class_error"].tolist() == report.terms["cardinality_error"].tolist() == [0, 0]


def test_a_batch_without_objects_teaches_no_object_and_nothing_else() -> None:
    found = output(2)
    report = criterion()(found, objects(0, 0), Totals(2, 0, 0))
    report.total.backward()
    assert torch.isfinite(report.total)
    assert report.terms["l1"].tolist() == report.terms["giou"].tolist() == [0, 0]
    assert found.boxes.grad is not None
    assert not found.boxes.grad.any()
    assert found.logits.grad is not None
    assert (found.logits.grad[..., :-1] > 0).all()
    assert (found.logits.grad[..., -1] < 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_are_computed_in_float32_at_least(dtype: torch.dtype) -> None:
    truth = objects(2, 1)
    wide = torch.promote_types(dtype, torch.float32)
    truth = [Objects(image.boxes.to(wide), image.labels) for image in truth]
    found = DetrOutput(*(value.detach().to(dtype) for value in output(2)[:2]))
    report = criterion()(found, truth, count_totals(truth, QUERIES))
    same = DetrOutput(*(value.to(wide) for value in found[:2]))
    assert report.total.dtype == wide
    assert torch.equal(report.total, criterion()(same, truth, count_totals(truth, QUERIES)).total)


def test_totals_count_at_most_one_object_per_query() -> None:
    assert count_totals(objects(2, 0, 6, 4), QUERIES) == Totals(images=4, boxes=12, matched=2 + 0 + 4 + 4)
