"""All results together: the files that keep them, and splits that have next to nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detrkit.errors import DetrkitError
from detrkit.evaluation.analysis import Analysis, analyse, read, write
from detrkit.evaluation.judged import Judged

HERE, THERE = (0, 0, 40, 40), (200, 200, 40, 40)


@pytest.fixture(scope="module")
def analysis(judged: Judged) -> Analysis:
    return analyse(judged)


def strict(value: object) -> object:
    return json.loads(json.dumps(value, allow_nan=False))


def test_what_is_written_comes_back(tmp_path: Path, judged: Judged, analysis: Analysis) -> None:
    write(tmp_path, judged, analysis)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "analysis.json",
        "metrics.json",
        "precision_recall.npz",
    ]
    kept = read(tmp_path)
    assert kept.metrics == strict(judged.metrics.to_dict())
    assert kept.analysis == strict(analysis.to_dict()) == analysis.to_dict()
    assert np.array_equal(kept.curves.precision, judged.precision[..., 0, -1])


def test_it_says_what_was_judged_and_has_the_classes_in_one_place(
    analysis: Analysis, reference: COCOeval
) -> None:
    found = analysis.to_dict()
    assert (found["images"], found["objects"], found["detections"]) == (100, 830, 734)
    assert found["crowds"] == sum(one["iscrowd"] for one in reference.cocoGt.anns.values())
    assert found["ious"] == reference.params.iouThrs.tolist()
    assert found["max_detections"] == [1, 10, 100]
    names = [category["name"] for category in reference.cocoGt.cats.values()]
    assert list(found["per_class"]) == found["classes"] == names
    assert found["bootstrap"]["value"] == pytest.approx(reference.stats[0], abs=1e-9)
    assert found["errors"]["AP"] == pytest.approx(reference.stats[1], abs=1e-9)
    person = found["per_class"]["person"]
    assert person["f1"] == analysis.operating.per_class["person"].f1
    assert person["mean_iou"] == analysis.overlap.per_class["person"]
    assert found["confusion"]["score"] == found["operating"]["overall"]["threshold"]


@pytest.mark.parametrize(
    ("objects", "found", "classes"),
    [
        ([], [], ("cup",)),
        ([(0, "cup", HERE, False)], [], ("cup",)),
        ([], [(0, "cup", HERE, 0.5)], ("cup", "cat")),
        ([(0, "cup", HERE, True)], [(0, "cup", HERE, 0.5)], ("cup", "cat")),
        ([(0, "cup", HERE, False)], [(0, "cup", HERE, 0.5)], ("cup",)),
        ([(0, "cup", HERE, False)], [(0, "cat", THERE, 7)], ("cup", "cat")),
        ([(0, "cup", (5, 5, 0, 0), False)], [(0, "cup", (5, 5, 0, 0), 0.5)], ("cup",)),
    ],
    ids=["nothing", "nothing found", "no objects", "only a crowd", "one class", "odd scores", "no area"],
)
def test_a_split_with_next_to_nothing_has_an_analysis(
    tmp_path: Path, scene: Callable[..., Judged], objects: list, found: list, classes: tuple[str, ...]
) -> None:
    judged = scene(objects, found, classes=classes)
    analysis = analyse(judged)
    write(tmp_path, judged, analysis)
    kept = read(tmp_path)
    assert kept.analysis == strict(analysis.to_dict())
    assert set(kept.analysis["per_class"]) == set(classes)
    assert kept.analysis["calibration"] is None or kept.analysis["calibration"]["iou"] == 0.5


def test_other_ious_are_analysed_at_their_lowest(scene: Callable[..., Judged]) -> None:
    objects, found = [(0, "cup", HERE, False)], [(0, "cup", (0, 0, 40, 30), 0.5)]  # IoU 0.75
    loose = analyse(scene(objects, found, ious=(0.7, 0.8), max_detections=(1,))).to_dict()
    assert loose["operating"] == {
        "iou": 0.7,
        "overall": {"threshold": 0.5, "precision": 1, "recall": 1, "f1": 1},
    }
    assert loose["overlap"]["recall"]["all"] == [1, 0]
    assert loose["confusion"]["cells"] == [[0, 0, 1]]
    tight = analyse(scene(objects, found, ious=(0.8,), max_detections=(1,))).to_dict()
    assert tight["operating"]["overall"]["f1"] == 0
    assert tight["confusion"]["cells"] == [[0, 2, 1], [2, 0, 1]]


def test_a_score_that_is_no_number_is_refused(scene: Callable[..., Judged]) -> None:
    for score in (float("nan"), float("inf")):
        with pytest.raises(
            DetrkitError, match="1 of 2 detections have a box or a score that is not finite, the "
        ):
            scene([], [(0, "cup", HERE, 0.5), (1, "cup", HERE, score)])


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=r"metrics\.json: no evaluation can be read there"):
        read(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(DetrkitError, match=r"metrics\.json: no evaluation can be read there"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("metrics", b"[" * 100_000), ("analysis", b"{}"), ("metrics", b'{"AP": "x"}')]
)
def test_a_damaged_file_is_told(
    tmp_path: Path, judged: Judged, analysis: Analysis, name: str, content: bytes
) -> None:
    write(tmp_path, judged, analysis)
    (tmp_path / f"{name}.json").write_bytes(content)
    with pytest.raises(
        DetrkitError, match=rf"{name}\.json: no evaluation can be read there \(.*\): evaluate again"
    ):
        read(tmp_path)
