"""Accuracy as pycocotools has it, and differences that are nothing where there is none."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detrkit.benchmark.benchmark import benchmark
from detrkit.benchmark.entrant import Entrant, Untrained, Weights
from detrkit.benchmark.events import Detecting, Known
from detrkit.benchmark.results import Effort, Results, read_results
from detrkit.errors import DetrkitError

NOTHING = Effort(turns=0, sizes=(), memory=False)
FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def compare(data: Path, out: Path, *entrants: Entrant, **more: Any) -> Results:
    return benchmark(
        entrants, data, "", out, more.pop("listener", lambda event: None), effort=NOTHING, workers=0, **more
    )


@pytest.fixture(scope="module")
def coco(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's own example as a dataset without images."""
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    truth = shared / "coco-eval" / "instances_val2014_100.json"
    (root / "annotations" / "instances_val.json").symlink_to(truth)
    (root / "val").mkdir()
    return root


@pytest.fixture(scope="module")
def found(shared: Path) -> Path:
    return shared / "coco-eval" / "instances_val2014_fakebbox100_results.json"


@pytest.fixture(scope="module")
def worse(found: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same detections, each moved by a third of its width."""
    results = json.loads(found.read_text())
    for result in results:
        result["bbox"][0] += result["bbox"][2] / 3
    path = tmp_path_factory.mktemp("worse") / "moved.json"
    path.write_text(json.dumps(results))
    return path


@pytest.fixture(scope="module")
def compared(coco: Path, found: Path, worse: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    entrants = [Entrant("one", None, found), Entrant("same", None, found), Entrant("moved", None, worse)]
    return compare(coco, tmp_path_factory.mktemp("out"), *entrants)


def test_the_twelve_figures_and_those_of_classes_are_those_of_pycocotools(
    compared: Results, coco: Path, found: Path, worse: Path
) -> None:
    for name, path in (("one", found), ("moved", worse)):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(coco / "annotations" / "instances_val.json"))
            evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        accuracy = compared.row(name).accuracy
        assert accuracy is not None
        assert [accuracy.figures[figure] for figure in FIGURES] == pytest.approx(evaluation.stats, abs=1e-12)
        names = [category["name"] for category in truth.loadCats(evaluation.params.catIds)]
        of_classes = evaluation.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
        assert list(accuracy.per_class) == names
        assert [one.AP for one in accuracy.per_class.values()] == pytest.approx(of_classes, abs=1e-12)


def test_the_first_is_what_others_are_compared_with(compared: Results) -> None:
    assert compared.reference == "one"
    reference = compared.row("one").accuracy
    assert reference is not None
    assert reference.against is None
    assert reference.low < reference.figures["AP"] < reference.high


def test_identical_entrants_differ_by_exactly_nothing(compared: Results) -> None:
    same = compared.row("same").accuracy
    assert same is not None
    assert same.against is not None
    assert (same.against.value, same.against.low, same.against.high, same.against.above) == (0, 0, 0, 0)


def test_a_clear_difference_has_an_interval_without_0(compared: Results) -> None:
    moved, one = compared.row("moved").accuracy, compared.row("one").accuracy
    assert moved is not None
    assert one is not None
    assert moved.against is not None
    assert moved.against.value == pytest.approx(moved.figures["AP"] - one.figures["AP"], abs=1e-12)
    assert moved.against.low < moved.against.value < moved.against.high < 0
    assert moved.against.above == 0


def test_a_file_of_results_has_an_accuracy_and_no_costs(compared: Results) -> None:
    row = compared.row("one")
    assert row.kind == "detections"
    assert row.cost is None
    assert (row.speed, row.training, row.memory) == ({}, {}, None)
    assert any("accuracy alone" in note for note in row.notes)


def test_what_was_found_is_read_back_as_it_is(coco: Path, found: Path, tmp_path: Path) -> None:
    results = compare(coco, tmp_path, Entrant("one", None, found))
    assert read_results(tmp_path) == results


def test_random_weights_have_no_accuracy_and_that_is_said(
    data: Path, checkpoint: Path, tiny: Path, tmp_path: Path
) -> None:
    results = compare(
        data, tmp_path, Entrant("random", Untrained(str(tiny))), Entrant("trained", Weights(checkpoint))
    )
    random = results.row("random")
    assert random.accuracy is None
    assert any("random weights" in note for note in random.notes)
    assert results.reference == "trained"


def test_detections_are_kept_until_the_weights_change(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    entrant, out = Entrant("run 1/a", Weights(checkpoint)), tmp_path / "out"
    first = compare(data, out, entrant, listener=heard.append)
    assert [one.done for one in heard if isinstance(one, Detecting)] == [0, 1, 2, 3, 4, 5]
    assert [one.kept for one in heard if isinstance(one, Known)] == [False]

    heard.clear()
    again = compare(data, out, entrant, listener=heard.append)
    assert [one for one in heard if isinstance(one, Detecting)] == []
    assert [one.kept for one in heard if isinstance(one, Known)] == [True]
    assert again.row("run 1/a").accuracy == first.row("run 1/a").accuracy

    heard.clear()
    compare(data, out, entrant, listener=heard.append, overrides={"data.eval_short_side": 32})
    assert any(isinstance(one, Detecting) for one in heard)


def test_what_was_only_half_detected_does_not_count(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(event: Any) -> None:
        if isinstance(event, Detecting) and event.done == 3:
            raise Killed

    entrant = Entrant("run", Weights(checkpoint))
    with pytest.raises(Killed):
        compare(data, tmp_path / "out", entrant, listener=die)
    heard: list[Any] = []
    resumed = compare(data, tmp_path / "out", entrant, listener=heard.append)
    whole = compare(data, tmp_path / "whole", entrant)
    assert any(isinstance(one, Detecting) for one in heard)
    assert resumed.row("run").accuracy == whole.row("run").accuracy


def test_two_of_one_name_are_refused(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="2 entrants are called a"):
        compare(data, tmp_path, Entrant("a", Weights(checkpoint)), Entrant("a", Weights(checkpoint)))
