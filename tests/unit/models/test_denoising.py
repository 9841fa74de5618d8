import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_convert

from detrkit.models.decoders.denoising import Denoising, NoisyObjects
from detrkit.settings.model import DenoisingSettings
from detrkit.structures import Objects

WIDTH, CLASSES = 8, 5


def denoising(**settings: float | bool) -> Denoising:
    torch.manual_seed(0)
    return Denoising(DenoisingSettings(**{"groups": 2} | settings), CLASSES, WIDTH)


def truth(*counts: int) -> list[Objects]:
    """Boxes well inside their images."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for count in counts:
        centre, size = torch.rand(2, count, 2, generator=generator)
        boxes = torch.cat([0.4 + 0.2 * centre, 0.02 + 0.18 * size], dim=-1)
        found.append(Objects(boxes, torch.randint(CLASSES, (count,), generator=generator)))
    return found


def boxes_of(noisy: NoisyObjects, objects: list[Objects], group_size: int) -> tuple[Tensor, Tensor]:
    """(with noise, without) of every real query, for images that all have ``group_size`` objects."""
    clean = torch.stack([image.boxes for image in objects])
    return noisy.anchors.sigmoid(), clean.repeat(1, noisy.anchors.shape[1] // group_size, 1)


def reach(noisy: Tensor, clean: Tensor) -> Tensor:
    """How far each side has moved, in halves of the box's width or height."""
    moved = (box_convert(noisy, "cxcywh", "xyxy") - box_convert(clean, "cxcywh", "xyxy")).abs()
    return moved / (clean[..., 2:].repeat(1, 1, 2) / 2)


@pytest.mark.parametrize("noise", [0.1, 0.4, 0.8, 1.0])
def test_noise_moves_the_centre_and_changes_the_size_up_to_its_bounds(noise: float) -> None:
    objects = truth(100, 100)
    noisy, clean = boxes_of(denoising(box_noise=noise, groups=20)(objects), objects, 100)
    shift = (noisy - clean).abs()[..., :2] / (clean[..., 2:] / 2)
    growth = (noisy - clean).abs()[..., 2:] / clean[..., 2:]
    for change in (shift, growth):
        assert change.max() <= noise + 1e-3
        assert change.max() > 0.9 * noise
    assert reach(noisy, clean).max() <= noise + 1e-3


def test_noise_of_0_8_reaches_as_far_as_dn_detrs_0_4() -> None:
    # Li et al. 2022, section 4.4: the centre moves by up to 0.4 w / 2, and the size changes by up to 0.4 w.
    objects = truth(200)
    noisy, clean = boxes_of(denoising(box_noise=0.8, groups=20)(objects), objects, 200)
    width = clean[0, 0, 2].item()
    furthest_there = (0.4 * width / 2 + 0.4 * width / 2) / (width / 2)
    assert reach(noisy, clean).max().item() == pytest.approx(furthest_there, rel=0.01)


def test_noise_is_uniform_in_both_directions() -> None:
    objects = truth(500)
    noisy, clean = boxes_of(denoising(box_noise=0.5, groups=10)(objects), objects, 500)
    moved = box_convert(noisy, "cxcywh", "xyxy") - box_convert(clean, "cxcywh", "xyxy")
    share = moved / (0.5 * clean[..., 2:].repeat(1, 1, 2) / 2)
    assert share.mean((0, 1)).abs().max() < 0.03
    assert share.std((0, 1)).tolist() == pytest.approx([3**-0.5] * 4, abs=0.02)


@pytest.mark.parametrize("noise", [0.2, 0.45])
def test_every_side_of_a_negative_is_moved_further_than_any_side_of_a_positive(noise: float) -> None:
    """Zhang et al. 2022, section 3.3, while no box is turned inside out."""
    objects = truth(100, 100)
    queries = denoising(box_noise=noise, groups=10, negatives=True)(objects)
    noisy, clean = boxes_of(queries, objects, 100)
    negative = queries.target[0] == -1
    moved = reach(noisy, clean)
    assert moved[:, ~negative].max() <= noise + 1e-3
    assert moved[:, negative].min() >= noise - 1e-3
    assert moved[:, negative].max() <= 2 * noise + 1e-3
    assert moved[:, negative].max() > 1.9 * noise


unit = st.floats(0, 1, width=32)


@given(
    boxes=st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=4),
    noise=st.floats(0, 3, width=32),
    negatives=st.booleans(),
)
def test_a_noisy_box_lies_in_the_image_with_finite_logits(
    boxes: list[tuple[float, float, float, float]], noise: float, negatives: bool
) -> None:
    corners = torch.tensor(boxes).view(-1, 2, 2)
    corners = torch.cat([corners.amin(1), corners.amax(1)], dim=-1)
    objects = [Objects(box_convert(corners, "xyxy", "cxcywh"), torch.zeros(len(boxes), dtype=torch.int64))]
    noisy = denoising(box_noise=noise, negatives=negatives)(objects)
    assert torch.isfinite(noisy.anchors).all()
    found = box_convert(noisy.anchors.sigmoid(), "cxcywh", "xyxy")
    # The least size and the least distance of a centre from the border are a thousandth of the image.
    assert found.min() >= -1e-3
    assert found.max() <= 1 + 1e-3
    assert (found[..., 2:] > found[..., :2]).all()


def test_without_noise_a_query_is_its_object() -> None:
    objects = truth(3, 0, 5)
    made = denoising(groups=3, label_noise=0.0, box_noise=0.0)
    noisy = made(objects)
    boxes = torch.cat([image.boxes for image in objects])
    labels = torch.cat([image.labels for image in objects])
    target = noisy.target[noisy.real]
    torch.testing.assert_close(noisy.anchors[noisy.real].sigmoid(), boxes[target])
    assert torch.equal(noisy.hidden[noisy.real], made.labels(labels[target]))


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_labels_are_drawn_anew_as_often_as_told(noise: float) -> None:
    objects = truth(500)
    made = denoising(groups=20, label_noise=noise)
    noisy = made(objects)
    is_class = (noisy.hidden[0, :, None] == made.labels.weight).all(-1)
    assert (is_class.sum(-1) == 1).all()
    shown = is_class.int().argmax(-1)
    wrong = shown != objects[0].labels.repeat(20)
    # One in CLASSES of those that are drawn anew is the true one again; 4 standard deviations of 10,000.
    assert wrong.double().mean().item() == pytest.approx(noise * (1 - 1 / CLASSES), abs=4 * 0.5 / 100)
    assert set(shown[wrong].tolist()) == (set(range(CLASSES)) if noise else set())


@pytest.mark.parametrize("negatives", [False, True])
def test_every_object_has_its_positives_and_negatives(negatives: bool) -> None:
    noisy = denoising(groups=3, negatives=negatives)(truth(3, 0, 1))
    assert (noisy.positives, noisy.negatives) == (3, 3 if negatives else 0)
    target = noisy.target[noisy.real]
    assert target[target >= 0].bincount().tolist() == [noisy.positives] * 4
    assert (target == -1).sum() == noisy.negatives * 4


@pytest.mark.parametrize("negatives", [False, True])
def test_targets_count_through_the_batch_and_belong_to_the_querys_image(negatives: bool) -> None:
    noisy = denoising(groups=2, negatives=negatives)(truth(3, 0, 2))
    first, second, third = (
        sorted(set(target[real].tolist()) - {-1})
        for target, real in zip(noisy.target, noisy.real, strict=True)
    )
    assert (first, second, third) == ([0, 1, 2], [], [3, 4])


@pytest.mark.parametrize("negatives", [False, True])
def test_a_group_holds_every_object_of_its_image_once_and_its_negatives(negatives: bool) -> None:
    noisy = denoising(groups=4, negatives=negatives)(truth(3, 2))
    assert noisy.group.unique().tolist() == [0, 1, 2, 3]
    for group in range(4):
        targets = noisy.target[0, (noisy.group == group) & noisy.real[0]].tolist()
        assert sorted(targets) == [-1] * (3 if negatives else 0) + [0, 1, 2]


def test_images_with_fewer_objects_are_padded_and_the_padding_is_marked() -> None:
    noisy = denoising(groups=2, negatives=True)(truth(3, 0, 1))
    assert noisy.hidden.shape == (3, 12, WIDTH)
    assert noisy.anchors.shape == (3, 12, 4)
    assert noisy.real.tolist() == [[True] * 12, [False] * 12, [True, False, False] * 4]


def test_a_batch_without_objects_has_a_query_that_is_not_real() -> None:
    noisy = denoising(groups=2)(truth(0, 0))
    assert noisy.real.tolist() == [[False, False]] * 2
    assert torch.isfinite(noisy.anchors).all()


def test_answers_to_padding_are_left_out() -> None:
    noisy = denoising(groups=2)(truth(2, 0, 1))
    logits = torch.arange(2 * 3 * 4 * CLASSES).view(2, 3, 4, CLASSES).float()
    denoised = noisy.read(logits, logits[..., :4])
    assert denoised.logits.shape == (2, 6, CLASSES)
    assert torch.equal(denoised.logits, torch.cat([logits[:, 0], logits[:, 2, 0::2]], dim=1))
    assert denoised.target.tolist() == [0, 1, 0, 1, 2, 2]
    assert (denoised.positives, denoised.negatives) == (2, 0)


def test_noise_is_drawn_from_torchs_generator() -> None:
    made, objects = denoising(negatives=True), truth(3, 1)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(made(objects).anchors)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
