import pytest
import torch
from torch import Tensor, nn

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector, num_parameters
from detrkit.detectors.detr import DetrDetector
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.structures import Images, ImageSize, Objects

CATEGORIES = (Category(1, "cat"), Category(7, "dog"), Category(9, "кошка"))
OVERRIDES = {
    "model.backbone.name": "resnet18",
    "model.backbone.weights": "none",
    "model.transformer.width": 32,
    "model.transformer.heads": 4,
    "model.transformer.feedforward": 48,
    "model.transformer.dropout": 0.0,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 5,
    "data.short_sides": [64, 96],
    "data.max_size": 128,
}


def build(**overrides: object) -> DetrDetector:
    torch.manual_seed(0)
    detector = build_detector(recipe("detr_r50", OVERRIDES | overrides), CATEGORIES)
    assert isinstance(detector, DetrDetector)
    return detector


@pytest.fixture(scope="module")
def detector() -> DetrDetector:
    return build()


def images() -> Images:
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randn(2, 3, 64, 64, generator=generator), torch.ones(2, 64, 64, dtype=torch.bool))


def objects() -> list[Objects]:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.4, 0.2]])
    return [Objects(boxes, torch.tensor([2, 0])), Objects(boxes[:0], torch.zeros(0, dtype=torch.int64))]


def test_a_detector_is_built_as_the_settings_say(detector: DetrDetector) -> None:
    assert detector.categories == CATEGORIES
    assert detector.image_size == ImageSize(short_side=96, max_size=128)
    assert detector.max_objects == 5
    assert detector.backbone is detector.network.backbone
    output = detector.network(images())
    assert output.logits.shape == (2, 2, 5, len(CATEGORIES) + 1)


def test_initial_weights_are_a_function_of_the_seed(detector: DetrDetector) -> None:
    again, other = build(), build_detector(recipe("detr_r50", OVERRIDES), CATEGORIES)
    state = detector.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert any(not torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_the_loss_weights_and_scoring_are_those_of_the_settings() -> None:
    criterion = build(**{"loss.l1": 11.0, "matching.giou": 13.0, "scoring.no_object": 0.25}).criterion
    assert (criterion.weights.l1, criterion.matching.giou) == (11, 13)
    assert criterion.scoring.no_object == 0.25


def test_the_loss_is_the_criterions_of_the_networks_output(detector: DetrDetector) -> None:
    detector.eval()
    totals = count_totals(objects(), detector.max_objects)
    report = detector(images(), objects(), totals)
    expected = detector.criterion(detector.network(images()), objects(), totals)
    assert torch.equal(report.total, expected.total)


def test_detections_are_the_networks_boxes_in_pixels(detector: DetrDetector) -> None:
    detector.eval()
    with torch.no_grad():
        found = detector.detect(images(), [(480, 640), (100, 50)])
        output = detector.network(images())
    for image, (height, width) in zip(range(2), [(480, 640), (100, 50)], strict=True):
        scores, labels = output.logits[-1, image].softmax(-1)[:, :-1].max(-1)
        x, y, w, h = output.boxes[-1, image].unbind(-1)
        corners = torch.stack(
            [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], dim=-1
        )
        order = scores.argsort(descending=True)
        torch.testing.assert_close(found[image].scores, scores[order])
        assert torch.equal(found[image].labels, labels[order])
        torch.testing.assert_close(found[image].boxes, corners[order], rtol=0, atol=1e-3)


class Shared(nn.Module):
    """Ten frozen parameters, and twelve that two of its parts have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.zeros(10), requires_grad=False)
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.register_buffer("statistics", torch.zeros(5))


def test_parameters_are_counted_once() -> None:
    assert num_parameters(Shared()) == (12, 22)


def test_a_detector_has_to_fulfil_the_contract() -> None:
    class Unfinished(Detector):
        def forward(self, pixels: Tensor) -> Tensor:
            return pixels

    with pytest.raises(TypeError, match="abstract"):
        Unfinished(CATEGORIES, ImageSize(64, 64))
