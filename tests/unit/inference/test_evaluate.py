import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from detrkit.catalog import Catalog, Category
from detrkit.data.formats.recognise import read_split
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.evaluate import detect_split, evaluate
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals


class Record:
    """In what circumstances a detector was asked, shared by its copies."""

    def __init__(self) -> None:
        self.given = 0
        self.seen: list[Images] = []
        self.product: torch.dtype | None = None
        self.modes: set[bool] = set()
        self.copies = 0

    def __deepcopy__(self, memo: dict) -> "Record":
        self.copies += 1
        return self


class Scripted(Detector):
    """Gives prepared answers, one per image, and remembers the circumstances in which it was asked."""

    def __init__(self, categories: tuple[Category, ...], answers: list[Detections]) -> None:
        super().__init__(categories, ImageSize(short_side=32, max_size=48))
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.answers = answers
        self.record = Record()

    @property
    def backbone(self) -> nn.Module:
        return self.layers

    @property
    def max_objects(self) -> int:
        return 100

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        raise AssertionError("evaluation has no loss")

    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        assert torch.is_inference_mode_enabled()
        record = self.record
        record.modes |= {module.training for module in self.modules()}
        record.seen.append(images)
        record.product = self.layers[0](images.pixels[0, 0, :2, :2]).dtype
        first, record.given = record.given, record.given + len(sizes)
        chosen = self.answers[first : record.given]
        return [Detections(*(column.clone() for column in found)) for found in chosen]


@pytest.fixture
def catalog(tmp_path: Path, write_coco: Callable[..., Path]) -> Catalog:
    return read_split(write_coco(tmp_path / "coco", val=[2, 0, 3, 1, 4]), "val")


def perfect_answers(catalog: Catalog) -> list[Detections]:
    return [
        Detections(
            torch.from_numpy(catalog.boxes[catalog.rows(index)]),
            torch.ones(len(catalog.labels[catalog.rows(index)])),
            torch.from_numpy(catalog.labels[catalog.rows(index)]),
        )
        for index in range(len(catalog))
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_perfect_answers_score_one_whatever_the_batch_size(catalog: Catalog, batch_size: int) -> None:
    detector = Scripted(catalog.categories, perfect_answers(catalog))
    metrics, results = evaluate(detector, catalog, batch_size=batch_size)
    assert metrics.AP > 1 - 1e-9
    assert detector.record.copies == 1  # frozen once for all batches
    assert len(results) == len(catalog.labels)
    assert {entry["image_id"] for entry in results} == {1, 3, 4, 5}


def test_ranks_share_the_images(catalog: Catalog) -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    detector = Scripted(catalog.categories, [nothing] * 5)
    shares = [[key for key, _ in detect_split(detector, catalog, rank=rank, world=2)] for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == catalog.image_ids.tolist()
    assert {len(share) for share in shares} == {2, 3}


def test_images_are_resized_to_what_the_detector_expects(catalog: Catalog) -> None:
    detector = Scripted(catalog.categories, perfect_answers(catalog))
    evaluate(detector, catalog)
    assert {tuple(images.pixels.shape) for images in detector.record.seen} == {(1, 3, 32, 32)}


def test_a_detector_is_left_as_it_was(catalog: Catalog) -> None:
    detector = Scripted(catalog.categories, perfect_answers(catalog))
    detector.train()
    detector.layers[1].eval()
    modes = [module.training for module in detector.modules()]
    for _, found in detect_split(detector, catalog):
        assert [module.training for module in detector.modules()] == modes
        assert not torch.is_inference_mode_enabled()
        found.boxes[:] = 0
    assert detector.record.modes == {False}


@pytest.mark.parametrize(
    ("precision", "weights", "product"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.float32, torch.bfloat16),
        ("fp64", torch.float64, torch.float64),
    ],
)
def test_precision(catalog: Catalog, precision: str, weights: torch.dtype, product: torch.dtype) -> None:
    detector = Scripted(catalog.categories, perfect_answers(catalog)).to(weights)
    evaluate(detector, catalog, precision=precision)
    assert detector.record.product == product
    assert detector.record.seen[0].pixels.dtype == weights


def test_half_precision_needs_a_gpu(catalog: Catalog) -> None:
    detector = Scripted(catalog.categories, perfect_answers(catalog))
    with pytest.raises(DetrkitError, match="precision is fp16, which only a GPU computes in: take bf16"):
        evaluate(detector, catalog, precision="fp16")


def test_other_categories_are_refused_before_anything_is_computed(catalog: Catalog) -> None:
    detector = Scripted((Category(3, "else"), Category(4, "class 3", used=False)), [])
    with pytest.raises(DetrkitError, match=r"instances_val\.json: none of its categories .*else.*--init"):
        detect_split(detector, catalog)


def test_labels_are_mapped_by_name_whatever_their_ids_and_order(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    # The detector knows the dataset's classes 3 and 1 under other ids, not class 2, and some more.
    own = (
        Category(0, "unused 0", used=False),
        Category(7, "class 3"),
        Category(9, "zebra"),
        Category(4, "class 1"),
    )
    label_of = torch.tensor([3, 0, 1])  # what is class 2 there gets the unused label, and falls out
    answers = [found._replace(labels=label_of[found.labels]) for found in perfect_answers(catalog)]
    answers.append(Detections(torch.tensor([[0.0, 0, 9, 9]]), torch.ones(1), torch.tensor([2])))
    answers[1] = answers.pop()  # image 2 has no objects, and here a zebra
    metrics, results = evaluate(Scripted(own, answers), catalog)
    assert metrics.per_class["class 1"].AP > 1 - 1e-9
    assert metrics.per_class["class 3"].AP > 1 - 1e-9
    assert metrics.per_class["class 2"].AP == 0
    assert {entry["category_id"] for entry in results} == {1, 3}
    assert "1 of the 3 categories" in caplog.text
    assert "class 2" in caplog.text
    assert "is not counted: zebra" in caplog.text


def test_a_missing_image_is_refused_before_anything_is_computed(catalog: Catalog) -> None:
    catalog.path(4).unlink()
    with pytest.raises(DetrkitError, match=r"0005\.png"):
        detect_split(Scripted(catalog.categories, []), catalog)


def test_a_split_without_annotations_can_be_evaluated(
    tmp_path: Path, write_coco: Callable[..., Path]
) -> None:
    catalog = read_split(write_coco(tmp_path / "empty", val=[0, 0]), "val")
    box = Detections(torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([0.5]), torch.tensor([0]))
    metrics, results = evaluate(Scripted(catalog.categories, [box, box]), catalog)
    assert metrics.AP == -1
    assert json.dumps(results[0]) == json.dumps(
        {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 5.0, 5.0], "score": 0.5}
    )
