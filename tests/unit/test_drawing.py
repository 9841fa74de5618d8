import pytest
import torch

from detrkit.drawing import draw_detections, draw_objects, label_colour
from detrkit.structures import Detections


def found(*boxes: list[float]) -> Detections:
    scores = torch.linspace(0.9, 0.1, len(boxes))
    return Detections(torch.tensor(boxes).reshape(-1, 4), scores, torch.arange(len(boxes)))


def test_draws_the_outline_in_the_colour_of_the_label() -> None:
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    picture = draw_detections(image, found([100, 100, 300, 200]), ["cat"])
    for x, y in ((100, 150), (300, 150), (200, 200), (200, 100)):
        assert tuple(picture[:, y, x].tolist()) == label_colour(0)
    assert not picture[:, 110:190, 110:290].any()
    assert not image.any()


def test_the_best_detection_lies_on_top() -> None:
    image = torch.zeros(3, 480, 640, dtype=torch.uint8)
    picture = draw_detections(image, found([100, 100, 300, 200], [100, 100, 300, 300]), ["cat", "dog"])
    assert tuple(picture[:, 150, 100].tolist()) == label_colour(0)
    assert tuple(picture[:, 250, 100].tolist()) == label_colour(1)


def test_nothing_found_changes_nothing() -> None:
    image = torch.randint(0, 256, (3, 40, 500), dtype=torch.uint8)
    assert torch.equal(draw_detections(image, found(), []), image)


@pytest.mark.parametrize(
    ("size", "factor"), [((128, 128), 4), ((100, 257), 1), ((40, 256), 2), ((1, 1), 512)]
)
def test_a_small_image_is_enlarged_with_its_boxes(size: tuple[int, int], factor: int) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    enlarged = draw_detections(image, found(), [])
    assert torch.equal(enlarged[:, ::factor, ::factor], image)
    assert torch.equal(enlarged[:, factor - 1 :: factor, factor - 1 :: factor], image)


def test_boxes_are_enlarged_with_a_small_image() -> None:
    picture = draw_detections(torch.zeros(3, 128, 128, dtype=torch.uint8), found([20, 60, 80, 100]), ["cat"])
    for x, y in ((80, 320), (320, 320), (200, 240), (200, 400)):
        assert tuple(picture[:, y, x].tolist()) == label_colour(0)


def test_objects_are_drawn_without_scores() -> None:
    image = torch.full((3, 480, 640), 90, dtype=torch.uint8)
    boxes, labels = torch.tensor([[100.0, 100, 300, 200]]), torch.tensor([0])
    annotated = draw_objects(image, boxes, labels, ["cat"])
    assert tuple(annotated[:, 150, 100].tolist()) == label_colour(0)
    assert 0 < ink(annotated) < ink(draw_detections(image, found([100, 100, 300, 200]), ["cat"]))


@pytest.mark.parametrize(
    "box", [[200, 0, 400, 150], [630, 10, 640, 20], [0, 470, 5, 480], [-50, -50, 700, 500]]
)
def test_the_whole_caption_lies_inside_the_picture(box: list[float]) -> None:
    image = torch.full((3, 480, 640), 90, dtype=torch.uint8)
    in_the_middle = draw_detections(image, found([200, 200, 400, 350]), ["traffic light"])
    at_the_edge = draw_detections(image, found(box), ["traffic light"])
    assert ink(at_the_edge) == ink(in_the_middle) > 0


def test_captions_grow_with_the_image() -> None:
    small = torch.full((3, 480, 640), 90, dtype=torch.uint8)
    large = torch.full((3, 1920, 2560), 90, dtype=torch.uint8)
    drawn_small = draw_detections(small, found([100, 100, 300, 200]), ["cat"])
    drawn_large = draw_detections(large, found([400, 400, 1200, 800]), ["cat"])
    assert 10 < ink(drawn_large) / ink(drawn_small) < 30


@pytest.mark.parametrize("name", ["", "кошка", "naïve", "猫 🐈", "two\nlines", "nul\x00", "\udcff"])
@pytest.mark.parametrize("size", [(1, 1), (3, 900), (64, 48)])
def test_any_name_fits_any_image(name: str, size: tuple[int, int]) -> None:
    image = torch.zeros(3, *size, dtype=torch.uint8)
    picture = draw_detections(image, found([-5, -5, 2000, 2000], [3, 3, 3, 3], [50, 60, 50, 61]), [name] * 3)
    assert [side % original for side, original in zip(picture.shape[1:], size, strict=True)] == [0, 0]
    assert picture.any()


def test_colours_are_distinct() -> None:
    assert len({label_colour(label) for label in range(80)}) == 80


def ink(picture: torch.Tensor) -> int:
    """How many pixels are nearly black: on the orange paper of the first label, letters are."""
    return int((picture < 60).all(0).sum())
