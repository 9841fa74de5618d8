"""Every figure is compared with pycocotools' on the same ground truth and the same detections."""

import contextlib
import io
import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detrkit.catalog import Catalog, Category
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import (
    Metrics,
    evaluate_results,
    read_results,
    summary_lines,
    to_results,
    write_results,
)
from detrkit.structures import Detections

NAMES = Metrics._fields[:12]


def catalog_of(truth: dict) -> Catalog:
    annotations = sorted(truth["annotations"], key=lambda annotation: annotation["image_id"])
    image_ids = np.sort(np.array([image["id"] for image in truth["images"]], dtype=np.int64))
    label = {category["id"]: index for index, category in enumerate(truth["categories"])}
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    places = [annotation["image_id"] for annotation in annotations]
    return Catalog(
        source=Path("instances_val.json"),
        folder=Path("val"),
        categories=tuple(Category(category["id"], category["name"]) for category in truth["categories"]),
        image_ids=image_ids,
        file_names=np.array([f"{image_id}.jpg" for image_id in image_ids]),
        widths=np.full(len(image_ids), 640),
        heights=np.full(len(image_ids), 480),
        offsets=np.append(np.searchsorted(places, image_ids), len(places)),
        annotation_ids=np.array([annotation["id"] for annotation in annotations], dtype=np.int64),
        boxes=boxes,
        labels=np.array([label[annotation["category_id"]] for annotation in annotations], dtype=np.int64),
        areas=np.array([annotation["area"] for annotation in annotations], dtype=np.float64),
        crowds=np.array([annotation["iscrowd"] for annotation in annotations], dtype=bool),
    )


def pycocotools_says(truth: dict, results: list) -> tuple[list[float], dict[str, list[float]], list[str]]:
    """The 12 figures, [AP, AP50, AP75, APs, APm, APl, AR] of each class, and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        if results:
            detections = reference.loadRes(results)
        else:
            detections = COCO()
            detections.dataset = {**truth, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(reference, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation.summarize()
    names = {category["id"]: category["name"] for category in truth["categories"]}
    precision, recall = evaluation.eval["precision"][..., 2], evaluation.eval["recall"][..., 2]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    per_class = {
        names[category_id]: [
            *(mean(precision[ious, :, place, 0]) for ious in (slice(None), 0, 5)),
            *(mean(precision[:, :, place, area]) for area in (1, 2, 3)),
            mean(recall[:, place, 0]),
        ]
        for place, category_id in enumerate(evaluation.params.catIds)
    }
    return evaluation.stats.tolist(), per_class, printed.getvalue().splitlines()


def assert_same(truth: dict, results: list) -> Metrics:
    found = evaluate_results(catalog_of(truth), results)
    figures, per_class, printed = pycocotools_says(truth, results)
    assert list(found[:12]) == pytest.approx(figures, abs=1e-9, rel=0)
    assert set(found.per_class) == set(per_class)
    for name, expected in per_class.items():
        assert list(found.per_class[name][:7]) == pytest.approx(expected, abs=1e-9, rel=0), name
    assert summary_lines(found) == printed
    return found


def invented_results(truth: dict, seed: int) -> list[dict]:
    """Shifted copies of most objects and crowds, some under another class, with scores that often tie."""
    random = np.random.default_rng(seed)
    category_ids = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"]:
        for _ in range(random.integers(0, 4)):
            x, y, width, height = annotation["bbox"]
            shift = random.normal(0, 0.08, size=4) * [width, height, width, height]
            size = [width * math.exp(shift[2] / max(width, 1)), height * math.exp(shift[3] / max(height, 1))]
            confused = random.random() < 0.2
            category_id = int(random.choice(category_ids)) if confused else annotation["category_id"]
            score = float(random.integers(0, 50)) / 50
            results.append(
                result(annotation["image_id"], category_id, [x + shift[0], y + shift[1], *size], score)
            )
    return results


@pytest.fixture
def val2017(shared: Path) -> dict:
    return json.loads((shared / "coco-mini/annotations/instances_val2017.json").read_text())


def small_truth() -> dict:
    """Two images with objects (one a crowd, one exactly as large as `small` allows) and one without."""
    return {
        "images": [{"id": image_id, "width": 200, "height": 200} for image_id in (1, 2, 3)],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}, {"id": 5, "name": "car"}],
        "annotations": [
            annotation(1, image_id=1, category_id=7, bbox=[10, 10, 32, 32], area=32**2),
            annotation(2, image_id=1, category_id=7, bbox=[80, 80, 100, 100], area=9000, iscrowd=1),
            annotation(3, image_id=3, category_id=3, bbox=[0, 0, 120, 130], area=15600),
        ],
    }


def annotation(annotation_id: int, **columns: object) -> dict:
    return {"id": annotation_id, "iscrowd": 0, **columns}


def result(image_id: int, category_id: int, bbox: list[float], score: float) -> dict:
    box = [float(value) for value in bbox]
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def test_the_coco_api_example_has_its_published_figures(shared: Path) -> None:
    truth = json.loads((shared / "coco-eval/instances_val2014_100.json").read_text())
    results = json.loads((shared / "coco-eval/instances_val2014_fakebbox100_results.json").read_text())
    found = assert_same(truth, results)
    assert (round(found.AP, 3), round(found.AP50, 3), round(found.AP75, 3)) == (0.505, 0.697, 0.573)


@pytest.mark.parametrize("seed", range(3))
def test_real_annotations_with_crowds_and_empty_images(val2017: dict, seed: int) -> None:
    assert any(annotation["iscrowd"] for annotation in val2017["annotations"])
    assert {image["id"] for image in val2017["images"]} - {a["image_id"] for a in val2017["annotations"]}
    found = assert_same(val2017, invented_results(val2017, seed))
    assert 0.1 < found.AP < 0.9


def test_perfect_results_score_one(val2017: dict) -> None:
    objects = [annotation for annotation in val2017["annotations"] if not annotation["iscrowd"]]
    found = assert_same(val2017, [result(a["image_id"], a["category_id"], a["bbox"], 1.0) for a in objects])
    assert math.isclose(found.AP, 1)


def test_no_detections_score_zero(val2017: dict) -> None:
    found = assert_same(val2017, [])
    assert found.AP == found.AR100 == 0


def test_a_split_without_annotations_scores_minus_one() -> None:
    truth = small_truth() | {"annotations": []}
    for results in ([], [result(1, 7, [0, 0, 10, 10], 0.5)]):
        found = assert_same(truth, results)
        assert set(found[:12]) == {-1}
        assert found.per_class["cup"] == (-1, -1, -1, -1, -1, -1, -1, 0)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    inside_crowd = [result(1, 7, [82 + place, 82, 90, 90], 0.9) for place in range(5)]
    right = [result(1, 7, [10, 10, 32, 32], 0.5), result(3, 3, [0, 0, 120, 130], 0.5)]
    found = assert_same(small_truth(), [*inside_crowd, *right])
    assert math.isclose(found.AP, 1)


def test_a_detection_in_an_image_without_objects_is_wrong() -> None:
    right = result(1, 7, [10, 10, 32, 32], 0.5)
    found = assert_same(small_truth(), [right, result(2, 7, [10, 10, 32, 32], 0.9)])
    assert math.isclose(found.per_class["cup"].AP, 0.5)


def test_overlap_exactly_on_a_threshold() -> None:
    truth = small_truth()
    truth["annotations"][0]["bbox"] = [63.3, 41.7, 20.1, 20.1]
    assert_same(truth, [result(1, 7, [63.3, 41.7, 20.1, 10.05], 0.9)])


def test_classes_keep_their_names_whatever_the_order_of_their_ids() -> None:
    found = assert_same(small_truth(), [result(3, 3, [0, 0, 120, 130], 0.5)])
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "objects")
    assert found.to_dict()["per_class"] == {
        "cup": dict(zip(names, (0, 0, 0, 0, 0, -1, 0, 1), strict=True)),
        "cat": dict(zip(names, (*[pytest.approx(1)] * 3, -1, -1, *[pytest.approx(1)] * 2, 1), strict=True)),
        "car": dict(zip(names, (*[-1] * 7, 0), strict=True)),
    }
    assert tuple(found.to_dict())[:12] == NAMES


def test_ids_may_be_negative_or_too_large_for_a_float() -> None:
    truth = small_truth()
    new_ids = {1: -1, 2: 2**60, 3: 2**60 + 1}
    for image in truth["images"]:
        image["id"] = new_ids[image["id"]]
    for entry in truth["annotations"]:
        entry["image_id"] = new_ids[entry["image_id"]]
    truth["categories"][0]["id"] = truth["annotations"][0]["category_id"] = -7
    truth["annotations"][1]["category_id"] = -7
    results = [result(2**60 + 1, 3, [0, 0, 120, 130], 0.5), result(-1, -7, [10, 10, 32, 32], 0.5)]
    found = evaluate_results(catalog_of(truth), results)
    assert math.isclose(found.AP, 1)


def test_results_are_exact_after_writing_and_reading(tmp_path: Path) -> None:
    detections = Detections(
        boxes=torch.tensor([[0.1, 0.2, 100 / 3, 77.7], [5, 6, 5, 6]]),
        scores=torch.tensor([0.9, 1e-7]),
        labels=torch.tensor([1, 0]),
    )
    catalog = catalog_of(small_truth())
    results = to_results(catalog, 3, detections)
    assert [entry["category_id"] for entry in results] == [3, 7]
    left, top, right, bottom = detections.boxes[0].tolist()
    assert results[0]["bbox"] == [left, top, right - left, bottom - top]
    write_results(tmp_path / "detections.json", results)
    assert read_results(tmp_path / "detections.json", catalog) == results
    assert json.loads((tmp_path / "detections.json").read_text()) == results


def test_an_image_in_which_nothing_was_found_has_no_results() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert to_results(catalog_of(small_truth()), 1, nothing) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": msgspec.UNSET}, "missing required field `bbox`"),
        ({"bbox": [1, 2, 3]}, r"length >= 4 - at `\$\[0\].bbox`"),
        ({"bbox": [1, 2, 3, "4"]}, r"got `str` - at `\$\[0\].bbox"),
        ({"score": None}, r"got `null` - at `\$\[0\].score`"),
        ({"image_id": "1"}, r"got `str` - at `\$\[0\].image_id`"),
        ({"image_id": 9}, "entry 0 has image_id 9, which instances_val.json does not have"),
        ({"category_id": 9}, "entry 0 has category_id 9, which instances_val.json does not have"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    entry = {**result(1, 7, [1, 2, 3, 4], 0.5), **change}
    kept = {key: value for key, value in entry.items() if value is not msgspec.UNSET}
    assert_refused(tmp_path, json.dumps([kept]), message)


@pytest.mark.parametrize("text", ["", "{", '{"annotations": []}', "\xff"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    assert_refused(tmp_path, text, "not a COCO results file")


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, score: str) -> None:
    text = json.dumps([result(1, 7, [1, 2, 3, 4], 0.5)]).replace("0.5", score)
    assert_refused(tmp_path, text, "not a COCO results file")


def assert_refused(folder: Path, text: str, message: str) -> None:
    path = folder / "detections.json"
    path.write_text(text, "latin-1")
    with pytest.raises(DetrkitError, match=message) as refused:
        read_results(path, catalog_of(small_truth()))
    assert str(refused.value).startswith(f"{path}: ")


def test_a_missing_results_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=r"nowhere\.json: the results cannot be read: No such file"):
        read_results(tmp_path / "nowhere.json", catalog_of(small_truth()))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_results(catalog_of(small_truth()), [])
    assert capfd.readouterr() == ("", "")


def test_metrics_are_plain_numbers() -> None:
    found = evaluate_results(catalog_of(small_truth()), []).to_dict()
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
