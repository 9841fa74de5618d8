import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from detrkit.catalog import Category
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.predictor import Predictor, find_images
from detrkit.settings.experiment import recipe
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))


class Shared(list):
    """A list that copies of its owner share."""

    def __deepcopy__(self, memo: dict) -> "Shared":
        return self


class Corners(Detector):
    """Finds the whole of each image with scores 0.9, 0.5 and 0.1, and remembers the batches that it saw."""

    def __init__(self) -> None:
        super().__init__(CATEGORIES, ImageSize(short_side=32, max_size=64))
        self.batches: list[Images] = Shared()

    @property
    def backbone(self) -> nn.Module:
        return self

    @property
    def max_objects(self) -> int:
        return 3

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        raise AssertionError("prediction has no loss")

    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        self.batches.append(images)
        return [
            Detections(
                torch.tensor([[0.0, 0.0, width, height]] * 3),
                torch.tensor([0.9, 0.5, 0.1]),
                torch.tensor([0, 1, 0]),
            )
            for height, width in sizes
        ]


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_boxes_are_in_the_space_of_each_image() -> None:
    detector = Corners()
    first, second, third = Predictor(detector, batch_size=2)([noise(40, 60), noise(90, 30), noise(20, 20)])
    assert [found.boxes[0].tolist() for found in (first, second, third)] == [
        [0, 0, 60, 40],
        [0, 0, 30, 90],
        [0, 0, 20, 20],
    ]
    assert [batch.pixels.shape[0] for batch in detector.batches] == [2, 1]
    assert detector.batches[1].pixels.shape[-2:] == (32, 32)
    assert not detector.batches[0].valid.all()
    assert detector.batches[1].valid is None


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 3), (0.5, 2), (0.51, 1), (1.0, 0)])
def test_scores_reach_the_threshold(threshold: float, kept: int) -> None:
    (found,) = Predictor(Corners(), threshold)([noise(40, 60)])
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.1][:kept])
    assert found.labels.tolist() == [0, 1, 0][:kept]


def test_no_images_give_no_detections() -> None:
    assert Predictor(Corners())([]) == []


def test_a_file_an_image_and_a_tensor_are_the_same_picture(tmp_path: Path, small_detr: dict) -> None:
    torch.manual_seed(0)
    detector = build_detector(recipe("detr_r50", small_detr), CATEGORIES).eval()
    pixels = noise(48, 64)
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.save(tmp_path / "a.png")
    answers = Predictor(detector, threshold=0.0)([tmp_path / "a.png", str(tmp_path / "a.png"), image, pixels])
    assert len(answers[0].scores) == 5
    assert (answers[0].scores.diff() <= 0).all()
    for found in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, answers[0], strict=True))


def test_a_predictor_keeps_to_the_weights_that_it_was_made_of(small_detr: dict) -> None:
    torch.manual_seed(0)
    detector = build_detector(recipe("detr_r50", small_detr), CATEGORIES)
    predictor = Predictor(detector, threshold=0.0)
    (before,) = predictor([noise(48, 64)])
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.zero_()
    (after,) = predictor([noise(48, 64)])
    assert torch.equal(after.boxes, before.boxes)
    assert not torch.equal(Predictor(detector, threshold=0.0)([noise(48, 64)])[0].boxes, before.boxes)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> dict[str, threading.Event]:
    """Files of these names can be read, and each sets its event when it is."""
    read = {f"{number}.jpg": threading.Event() for number in range(5)}

    def read_image(path: Path) -> Tensor:
        read[path.name].set()
        return noise(40, 60 + int(path.stem))

    monkeypatch.setattr("detrkit.inference.predictor.read_image", read_image)
    return read


def test_the_next_images_are_read_while_the_network_looks(reading: dict[str, threading.Event]) -> None:
    waited: list[bool] = []

    class Patient(Corners):
        """Answers only once the image after this batch has been read."""

        def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
            coming = f"{sizes[-1][1] - 60 + 1}.jpg"
            waited.append(coming not in reading or reading[coming].wait(10))
            return super().detect(images, sizes)

    found = Predictor(Patient(), batch_size=2)(list(reading))
    assert waited == [True, True, True]
    assert [each.boxes[0].tolist() for each in found] == [[0, 0, 60 + number, 40] for number in range(5)]


def test_images_come_one_by_one_with_what_is_found_there(reading: dict[str, threading.Event]) -> None:
    threads = threading.active_count()
    coming = Predictor(Corners(), batch_size=2).each(list(reading))
    pixels, found = next(coming)
    assert torch.equal(pixels, noise(40, 60))
    assert found.boxes[0].tolist() == [0, 0, 60, 40]
    coming.close()
    assert threading.active_count() == threads
    assert not reading["4.jpg"].is_set()  # no more than the next batch was read


def test_an_unreadable_image_is_named_in_its_turn(tmp_path: Path) -> None:
    threads = threading.active_count()
    Image.new("RGB", (60, 40)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no png")
    coming = Predictor(Corners()).each([tmp_path / f"{name}.png" for name in ("good", "bad", "good")])
    assert next(coming)[0].shape == (3, 40, 60)
    with pytest.raises(DetrkitError, match=r"bad\.png cannot be read"):
        next(coming)
    assert threading.active_count() == threads


def test_a_photo_taken_upright_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (60, 40))
    image.save(tmp_path / "upright.jpg", exif=exif)
    (found,) = Predictor(Corners())([tmp_path / "upright.jpg"])
    assert found.boxes[0].tolist() == [0, 0, 40, 60]


def test_a_grey_image_has_three_channels() -> None:
    detector = Corners()
    Predictor(detector)([Image.new("L", (60, 40))])
    assert detector.batches[0].pixels.shape[1] == 3


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    predictor = Predictor(Corners())
    (tmp_path / "a.jpg").write_text("no jpeg")
    with pytest.raises(DetrkitError, match=r"a\.jpg cannot be read"):
        predictor([tmp_path / "a.jpg"])
    with pytest.raises(TypeError, match=r"pass \['a.jpg'\]"):
        predictor("a.jpg")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 1.5}, "the threshold is 1.5"), ({"batch_size": 0}, "the batch size is 0")],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(DetrkitError, match=message):
        Predictor(Corners(), **settings)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photos/b.JPG", "photos/a.png", "photos/notes.txt", "photos/inner/c.jpg", "d[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["photos"], ["photos/a.png", "photos/b.JPG"]),
        (["photos/b.JPG", "photos/a.png", "./photos/a.png"], ["photos/a.png", "photos/b.JPG"]),
        (["photos/*"], ["photos/a.png", "photos/b.JPG"]),
        (["**/*.jpg"], ["d[1].jpg", "photos/inner/c.jpg"]),
        (["d[1].jpg"], ["d[1].jpg"]),
        (["photos/notes.txt"], ["photos/notes.txt"]),
        (["photos/inner", "photos"], ["photos/a.png", "photos/b.JPG", "photos/inner/c.jpg"]),
    ],
)
@pytest.mark.usefixtures("photos")
def test_paths_mean_images(paths: list[str], found: list[str]) -> None:
    assert [str(path) for path in find_images(paths)] == found


def test_absolute_paths_and_other_names_of_the_same_file(photos: Path) -> None:
    (photos / "z.png").symlink_to("photos/a.png")
    assert find_images([str(photos / "photos/*.png")]) == [photos / "photos/a.png"]
    assert len(find_images(["z.png", "photos/a.png", str(photos / "photos/a.png")])) == 1


@pytest.mark.parametrize("path", ["nowhere.jpg", "photos/*.gif", "empty"])
def test_a_path_that_means_no_image_is_refused(photos: Path, path: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(DetrkitError, match="means no image: name a file") as refused:
        find_images(["photos", path])
    assert str(refused.value).startswith(path)


def test_pixels_are_not_changed() -> None:
    image = Image.fromarray(noise(40, 60).permute(1, 2, 0).numpy())
    before = pil_to_tensor(image)
    Predictor(Corners())([image])
    assert torch.equal(pil_to_tensor(image), before)
