import pytest
import torch

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.torchvision import TorchvisionDetector
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import parse
from detrkit.structures import Images, Objects

CATEGORIES = (Category(1, "cat"), Category(7, "dog"))
RESNET = {"name": "resnet18", "weights": "none"}


def build(**model: object) -> TorchvisionDetector:
    torch.manual_seed(0)
    tree = {"model": model, "data": {"short_sides": [64], "max_size": 64}}
    detector = build_detector(parse(tree, "the test"), CATEGORIES)
    assert isinstance(detector, TorchvisionDetector)
    return detector.eval()


@pytest.fixture(scope="module")
def retinanet() -> TorchvisionDetector:
    return build(kind="retinanet", backbone=RESNET, score_threshold=0.005, anchors=[8, 16, 24, 32, 48])


def objects(count: int) -> Objects:
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.3, 0.6, 0.3, 0.3]])[:count]
    return Objects(boxes, torch.tensor([1, 0])[:count])


def test_micro_batches_of_retinanet_add_up_to_one_large_batch(retinanet: TorchvisionDetector) -> None:
    """Whose loss is a mean over images: three in one pass, or two and one, as ranks and steps have them."""
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    truth = [objects(2), objects(1), objects(0)]
    totals = count_totals(truth, retinanet.max_objects)
    with torch.no_grad():
        whole = retinanet(Images(pixels), truth, totals)
        parts = [retinanet(Images(pixels[part]), truth[part], totals) for part in (slice(0, 2), slice(2, 3))]
    torch.testing.assert_close(sum(part.total for part in parts), whole.total)
    for name, term in whole.terms.items():
        torch.testing.assert_close(sum(part.terms[name] for part in parts), term)
    torch.testing.assert_close(sum(whole.terms.values()), whole.total[None])


def test_boxes_end_at_the_border_of_the_image_not_of_its_padding(retinanet: TorchvisionDetector) -> None:
    pixels, valid = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    valid[0, :40, :56] = True
    with torch.no_grad():
        (found,) = retinanet.detect(Images(pixels * valid[:, None], valid), [(80, 112)])
    assert len(found.boxes) > 10
    assert found.boxes.amax(0).tolist()[2:] == [112, 80]


def test_boxes_without_area_do_not_end_a_training(retinanet: TorchvisionDetector) -> None:
    """torchvision would refuse the batch."""
    truth = Objects(torch.tensor([[0.5, 0.5, 0.0, 0.3], [0.5, 0.5, 0.3, 0.3]]), torch.tensor([0, 1]))
    images, totals = Images(torch.randn(1, 3, 64, 64)), count_totals([truth], 9)
    expected = Objects(truth.boxes[1:], truth.labels[1:])
    with torch.no_grad():
        found, wanted = (retinanet(images, [one], totals).total for one in (truth, expected))
    assert torch.equal(found, wanted)
