from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.dab_detr.modeling_dab_detr import encode_sinusoidal_position_embedding

from detrkit.models.contracts import Memory
from detrkit.models.decoders.anchor import AnchorDecoder
from detrkit.models.decoders.denoising import NoisyObjects
from detrkit.models.heads import Heads
from detrkit.settings.model import AnchorDecoderSettings, TransformerSettings
from detrkit.structures import DetrOutput, Objects

WIDTH, QUERIES, CLASSES, LAYERS = 32, 5, 3, 3
DENOISING = {"denoising": {"groups": 3}}


def decoder(settled: bool = True, **settings: Any) -> AnchorDecoder:
    """One in training without dropout, whose boxes have left their anchors unless it is not ``settled``."""
    torch.manual_seed(0)
    transformer = TransformerSettings(width=WIDTH, heads=4, feedforward=48, dropout=0.0)
    chosen = AnchorDecoderSettings(**{"layers": LAYERS, "queries": QUERIES} | settings)
    built = AnchorDecoder(chosen, transformer, Heads(WIDTH, nn.Linear(WIDTH, CLASSES)), CLASSES)
    if settled:
        nn.init.xavier_uniform_(built.heads.boxes[-1].weight)
    return built.train()


def memory() -> Memory:
    generator = torch.Generator().manual_seed(0)
    tokens, position = torch.randn(2, 3, 7, WIDTH, generator=generator)
    return Memory(tokens, position, torch.arange(7) < torch.tensor([[7], [4], [1]]))


def truth(*counts: int) -> list[Objects]:
    generator = torch.Generator().manual_seed(1)
    return [
        Objects(
            0.3 + 0.4 * torch.rand(count, 4, generator=generator),
            torch.randint(CLASSES, (count,), generator=generator),
        )
        for count in counts
    ]


def assert_same_answers(found: DetrOutput, expected: DetrOutput) -> None:
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-5)


def test_every_layer_looks_around_the_box_that_the_layer_before_has_moved() -> None:
    """As the original writes it, with the code of a box from transformers."""
    built, seen = decoder(), memory()
    box_head, half = built.heads.boxes, WIDTH // 2
    box = built.anchors.sigmoid().expand(3, -1, -1)
    hidden = torch.zeros(3, QUERIES, WIDTH)
    output = built(seen)
    for number, layer in enumerate(built.layers):
        code = encode_sinusoidal_position_embedding(box, num_pos_feats=half)
        gaze = code[..., :WIDTH] * (built.modulate(hidden) if number else 1)
        width, height = built.size(hidden).sigmoid().unbind(-1)
        rows = gaze[..., :half] * (height / box[..., 3])[..., None]
        columns = gaze[..., half:] * (width / box[..., 2])[..., None]
        hidden = layer(hidden, built.place(code), torch.cat([rows, columns], -1), seen)
        state = built.norm(hidden)
        expected = (box_head(state) + box.logit()).sigmoid()
        torch.testing.assert_close(output.boxes[number], expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(output.logits[number], built.heads.classes(state), rtol=0, atol=1e-4)
        box = (box_head(hidden) + box.logit()).sigmoid()


def test_boxes_start_at_their_anchors_in_every_layer() -> None:
    built = decoder(settled=False)
    boxes = built(memory()).boxes
    torch.testing.assert_close(boxes, built.anchors.sigmoid().expand(LAYERS, 3, -1, -1))


def moving_alike() -> tuple[AnchorDecoder, nn.Parameter]:
    """A decoder whose every layer moves every box by the same logits, and those."""
    built = decoder(settled=False)
    step = built.heads.boxes[-1].bias
    nn.init.normal_(step, std=0.3)
    return built, step


def test_the_moves_of_the_layers_add_up_before_the_sigmoid() -> None:
    built, step = moving_alike()
    boxes = built(memory()).boxes
    for number in range(LAYERS):
        expected = (built.anchors + (number + 1) * step).sigmoid()
        torch.testing.assert_close(boxes[number], expected.expand(3, -1, -1))


def test_the_gradient_of_an_answer_reaches_the_layer_before_and_no_further() -> None:
    built, step = moving_alike()
    answers = built(memory()).boxes.logit().sum((1, 2))
    moves = 3 * QUERIES
    for number, layers_reached in ((0, 1), (1, 2), (2, 2)):
        (gradient,) = torch.autograd.grad(answers[number, 0], step, retain_graph=True)
        assert gradient.tolist() == pytest.approx([layers_reached * moves, 0, 0, 0], rel=1e-4)


@pytest.mark.parametrize("logit", [-20.0, 20.0], ids=["at 0", "at 1"])
def test_anchors_at_the_borders_have_finite_answers_and_gradients(logit: float) -> None:
    built = decoder()
    nn.init.constant_(built.anchors, logit)
    output = built(memory())
    (output.logits.sum() + output.boxes.sum()).backward()
    assert torch.isfinite(output.logits).all()
    assert torch.isfinite(output.boxes).all()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_anchors_start_as_unit_normals_before_the_sigmoid() -> None:
    anchors = decoder(queries=500, groups=2)
    assert anchors.further_anchors is not None
    for table in (anchors.anchors, anchors.further_anchors):
        assert table.shape == (500, 4)
        assert table.mean().item() == pytest.approx(0, abs=0.1)
        assert table.std().item() == pytest.approx(1, abs=0.1)


def test_without_the_truth_there_are_the_answers_alone() -> None:
    output = decoder(groups=3, **DENOISING)(memory())
    assert output.groups is None
    assert output.denoised is None
    plain = decoder()(memory(), truth(2, 0, 1))
    assert plain.groups is None
    assert plain.denoised is None


@pytest.mark.parametrize(
    "settings", [{"groups": 3}, DENOISING, {"groups": 2} | DENOISING], ids=["groups", "denoising", "both"]
)
def test_what_training_adds_does_not_change_the_answers(settings: dict[str, Any]) -> None:
    built = decoder(**settings)
    assert_same_answers(built(memory(), truth(2, 0, 4)), built(memory()))


def test_a_group_is_answered_as_if_it_were_alone() -> None:
    built = decoder(groups=3)
    groups = built(memory(), truth(2, 0, 4)).groups
    assert groups is not None
    assert groups.logits.shape == (LAYERS, 2, 3, QUERIES, CLASSES)
    assert groups.boxes.shape == (LAYERS, 2, 3, QUERIES, 4)
    assert built.further_anchors is not None
    for number, anchors in enumerate(built.further_anchors.detach().split(QUERIES)):
        alone = decoder(groups=3)
        alone.load_state_dict(built.state_dict())
        with torch.no_grad():
            alone.anchors.copy_(anchors)
        found = DetrOutput(groups.logits[:, number], groups.boxes[:, number])
        assert_same_answers(found, alone(memory()))


def spoil(built: AnchorDecoder, noisy: NoisyObjects, where: Tensor) -> None:
    """Let the decoder work on these denoising queries with other ones ``where`` told."""
    hidden = noisy.hidden.masked_fill(where[..., None], 9.0)
    anchors = noisy.anchors.masked_fill(where[..., None], -1.0)
    spoiled = noisy._replace(hidden=hidden, anchors=anchors)
    assert built.denoising is not None
    built.denoising.forward = lambda _: spoiled


@pytest.mark.parametrize("negatives", [False, True])
def test_denoising_queries_see_their_own_copy_and_the_answers_only(negatives: bool) -> None:
    built = decoder(denoising={"groups": 3, "negatives": negatives}, groups=2)
    objects = truth(2, 0, 4)
    assert built.denoising is not None
    noisy = built.denoising(objects)
    spoil(built, noisy, torch.zeros_like(noisy.real))
    before = built(memory(), objects)
    spoil(built, noisy, (noisy.group == 1) & noisy.real)
    after = built(memory(), objects)
    assert_same_answers(after, before)
    assert before.groups is not None
    assert after.groups is not None
    torch.testing.assert_close(after.groups.logits, before.groups.logits, rtol=0, atol=1e-5)
    assert before.denoised is not None
    assert after.denoised is not None
    changed = (after.denoised.logits - before.denoised.logits).abs().amax((0, 2)) > 1e-4
    assert torch.equal(changed, (noisy.group == 1).expand_as(noisy.real)[noisy.real])


def test_denoising_queries_see_the_answers() -> None:
    built = decoder(**DENOISING)
    objects = truth(1, 1, 1)
    assert built.denoising is not None
    noisy = built.denoising(objects)
    spoil(built, noisy, torch.zeros_like(noisy.real))
    before = built(memory(), objects).denoised
    with torch.no_grad():
        built.anchors.add_(1)
    after = built(memory(), objects).denoised
    assert before is not None
    assert after is not None
    assert ((after.logits - before.logits).abs().amax((0, 2)) > 1e-4).all()


def test_denoising_queries_do_not_see_further_groups() -> None:
    built = decoder(groups=2, **DENOISING)
    objects = truth(1, 2, 3)
    assert built.denoising is not None
    noisy = built.denoising(objects)
    spoil(built, noisy, torch.zeros_like(noisy.real))
    before = built(memory(), objects).denoised
    assert built.further_anchors is not None
    with torch.no_grad():
        built.further_anchors.add_(1)
    after = built(memory(), objects).denoised
    assert before is not None
    assert after is not None
    torch.testing.assert_close(after.logits, before.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.boxes, before.boxes, rtol=0, atol=1e-5)


def test_padding_among_denoising_queries_is_seen_by_none_and_not_answered() -> None:
    built = decoder(**DENOISING)
    objects = truth(2, 0, 4)
    assert built.denoising is not None
    noisy = built.denoising(objects)
    spoil(built, noisy, torch.zeros_like(noisy.real))
    before = built(memory(), objects)
    spoil(built, noisy, ~noisy.real)
    after = built(memory(), objects)
    assert (~noisy.real).any()
    assert_same_answers(after, before)
    assert before.denoised is not None
    assert after.denoised is not None
    assert before.denoised.logits.shape == (LAYERS, 3 * (2 + 0 + 4), CLASSES)
    torch.testing.assert_close(after.denoised.logits, before.denoised.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.denoised.boxes, before.denoised.boxes, rtol=0, atol=1e-5)


def test_a_batch_without_objects_has_no_denoised_answers() -> None:
    denoised = decoder(**DENOISING)(memory(), truth(0, 0, 0)).denoised
    assert denoised is not None
    assert denoised.logits.shape == (LAYERS, 0, CLASSES)
    assert denoised.boxes.shape == (LAYERS, 0, 4)
    assert denoised.target.shape == (0,)


def test_without_noise_the_denoising_boxes_start_as_the_objects() -> None:
    built = decoder(settled=False, denoising={"groups": 2, "box_noise": 0.0, "label_noise": 0.0})
    objects = truth(2, 0, 4)
    denoised = built(memory(), objects).denoised
    assert denoised is not None
    boxes = torch.cat([image.boxes for image in objects])
    expected = boxes[denoised.target].expand(LAYERS, -1, -1)
    torch.testing.assert_close(denoised.boxes, expected)
