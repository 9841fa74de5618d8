import pytest
import torch
from torch import Tensor

from detrkit.models.contracts import FeatureMap
from detrkit.models.detr import Detr, build_detr
from detrkit.scoring import Softmax
from detrkit.settings.experiment import recipe
from detrkit.structures import DetrOutput, Images

OVERRIDES = {
    "model.backbone.name": "resnet18",
    "model.backbone.weights": "none",
    "model.transformer.width": 32,
    "model.transformer.heads": 4,
    "model.transformer.feedforward": 48,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 5,
}
LOGITS = 4


@pytest.fixture(scope="module")
def detr() -> Detr:
    torch.manual_seed(0)
    return build_detr(recipe("detr_r50", OVERRIDES).model, Softmax(0.1), LOGITS - 1)


@pytest.fixture(autouse=True)
def evaluating(detr: Detr) -> None:
    detr.eval()


def images(*sizes: tuple[int, int]) -> Images:
    """Noise of these (height, width), padded to one batch."""
    generator = torch.Generator().manual_seed(0)
    height, width = (max(side) for side in zip(*sizes, strict=True))
    pixels = torch.zeros(len(sizes), 3, height, width)
    valid = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    for image, mask, (rows, columns) in zip(pixels, valid, sizes, strict=True):
        image[:, :rows, :columns] = torch.randn(3, rows, columns, generator=generator)
        mask[:rows, :columns] = True
    return Images(pixels, valid)


def assert_close(found: DetrOutput, expected: DetrOutput) -> None:
    """Equal to a ten thousandth of what distinguishes one logit from another."""
    atol = 1e-4 * expected.logits.std().item()
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=atol)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-4)


def test_all_layers_answers_lie_on_the_first_axis(detr: Detr) -> None:
    output = detr(images((64, 64), (64, 96), (32, 64)))
    assert output.logits.shape == (2, 3, 5, LOGITS)
    assert output.boxes.shape == (2, 3, 5, 4)
    assert ((output.boxes > 0) & (output.boxes < 1)).all()
    assert not torch.equal(output.logits[0], output.logits[1])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_logits_and_boxes_are_float32_under_autocast(detr: Detr, precision: torch.dtype) -> None:
    with torch.autocast("cpu", precision, enabled=precision != torch.float32), torch.no_grad():
        output = detr(images((64, 64)))
    assert output.logits.dtype == output.boxes.dtype == torch.float32


def test_an_image_is_answered_alike_alone_and_among_others_of_its_size(detr: Detr) -> None:
    together = images((64, 96), (64, 96), (64, 96))
    with torch.no_grad():
        whole = detr(together)
        for index in range(3):
            alone = Images(together.pixels[index, None], together.valid[index, None])
            expected = DetrOutput(whole.logits[:, index, None], whole.boxes[:, index, None])
            assert_close(detr(alone), expected)


def test_what_lies_in_padded_cells_changes_no_answer(detr: Detr) -> None:
    batch = images((96, 128), (64, 96))
    with torch.no_grad():
        (features,) = detr.backbone(batch)
        assert not features.valid.all()
        junk = 1e4 * torch.randn_like(features.values)
        spoiled = FeatureMap(torch.where(features.valid[:, None], features.values, junk), features.valid)
        found, expected = detr.decoder(detr.encoder([spoiled])), detr.decoder(detr.encoder([features]))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.boxes, expected.boxes)


def test_more_padding_changes_only_what_the_convolutions_see_of_it(detr: Detr) -> None:
    """Beyond the backbone, a padded feature map is answered as the map itself."""
    values = torch.randn(1, 512, 2, 3, generator=torch.Generator().manual_seed(0))
    padded = FeatureMap(torch.zeros(1, 512, 4, 5), torch.zeros(1, 4, 5, dtype=torch.bool))
    padded.values[..., :2, :3] = values
    padded.valid[..., :2, :3] = True
    bare = FeatureMap(values, torch.ones(1, 2, 3, dtype=torch.bool))
    with torch.no_grad():
        assert_close(detr.decoder(detr.encoder([padded])), detr.decoder(detr.encoder([bare])))


def test_dropout_is_drawn_in_training_only(detr: Detr) -> None:
    batch = images((64, 64))

    def answer() -> Tensor:
        with torch.no_grad():
            return detr(batch).logits

    assert torch.equal(answer(), answer())
    detr.train()
    assert not torch.equal(answer(), answer())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # What the original prints as "number of params" when it starts to train on COCO's 91 ids.
        ("detr_r50", 41_302_368),
        ("detr_r101", 60_242_272),
        ("detr_r50_dc5", 41_302_368),
    ],
)
def test_trainable_parameters_are_as_many_as_published(name: str, published: int) -> None:
    with torch.device("meta"):
        network = build_detr(recipe(name).model, Softmax(0.1), 91)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trainable) == published
