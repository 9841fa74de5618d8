"""What a run tells and keeps while it trains, against what its files say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

import detrkit
from detrkit.data.formats.recognise import read_split
from detrkit.inference.evaluate import evaluate
from detrkit.monitoring.jsonl import read_log
from detrkit.training.events import Event, Stepped, Validated


class Told(NamedTuple):
    data: Path
    out: Path
    events: list[Event]

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in read_log(self.out / "log.jsonl") if line["event"] == event]


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> Told:
    """Five steps of a small detector with an average, each of two micro-batches, in two epochs."""
    folder = tmp_path_factory.mktemp("told")
    data = write_coco(folder / "data", train=[3, 0, 2, 4, 1, 2, 3, 1, 2, 1], val=[2, 1, 3])
    settings = small_detr | {
        "train.max_steps": 5,
        "train.accumulate": 2,
        "data.batch_size": 2,
        "train.ema": 0.9,
        "train.update_ratio_every": 2,
    }
    events = list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, folder / "run"))
    return Told(data, folder / "run", events)


def test_a_step_has_every_term_of_every_layer_and_how_it_went(told: Told) -> None:
    lines = told.lines("step")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    for line in lines:
        terms = ("classification", "l1", "giou", "class_error", "cardinality_error")
        assert {name: len(line["terms"][name]) for name in terms} == dict.fromkeys(terms, 2)
        squares = sum(norm**2 for norm in line["gradient_norms"].values())
        assert line["gradient_norm"] == pytest.approx(squares**0.5, rel=1e-5)
        assert line["gradient_norms"].keys() == line["learning_rates"].keys() == {"backbone", "rest"}
        assert line["images_per_second"] == pytest.approx(4 / line["seconds"])
        assert line["data_share"] == pytest.approx(line["data_seconds"] / line["seconds"])
        assert 0 < line["data_share"] < 1
        assert line["memory"] > 2**26  # torch alone takes that much


def test_update_ratios_are_measured_as_often_as_settings_say(told: Told) -> None:
    ratios = [line["update_ratios"] for line in told.lines("step")]
    assert [measured is not None for measured in ratios] == [True, False, True, False, True]
    for measured in (ratios[0], ratios[2], ratios[4]):
        assert measured.keys() == {"backbone", "rest"}
        assert all(0 < ratio < 0.1 for ratio in measured.values())


def test_the_average_and_the_weights_are_both_judged(told: Told) -> None:
    (path,) = (told.out / "last").glob("tensors-*.safetensors")
    state = {
        name.removeprefix("detector."): tensor
        for name, tensor in load_file(path).items()
        if name.startswith("detector.")
    }
    detector = detrkit.load(told.out / "model.safetensors")
    catalog = read_split(told.data, "val")
    validated = [event for event in told.events if isinstance(event, Validated)][-1]
    average, _ = evaluate(detector, catalog, batch_size=2)
    assert any(not torch.equal(tensor, state[name]) for name, tensor in detector.state_dict().items())
    detector.load_state_dict(state)
    raw, _ = evaluate(detector, catalog, batch_size=2)
    assert validated.kept
    assert validated.metrics == average
    assert validated.raw == raw
    assert 0 < validated.raw_seconds < validated.seconds


def test_the_best_validation_is_kept_as_pycocotools_reads_it(told: Told) -> None:
    truth = COCO(str(told.data / "annotations" / "instances_val.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(told.out / "evaluation" / "detections.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    figures = json.loads((told.out / "evaluation" / "metrics.json").read_text())
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert [figures[name] for name in names] == pytest.approx(evaluation.stats.tolist(), abs=1e-9)
    best = [line for line in told.lines("validation") if line["kept"]][-1]
    assert figures == best["metrics"]
    assert sorted(path.name for path in (told.out / "evaluation").iterdir()) == [
        "detections.json",
        "metrics.json",
    ]


@pytest.mark.parametrize("settings", [{"train.ema": 0.0}, {"train.ema": 0.9, "train.validate_raw": False}])
def test_there_is_one_validation_where_one_is_enough(
    tmp_path: Path, told: Told, small_detr: dict[str, object], settings: dict[str, object]
) -> None:
    experiment = detrkit.recipe("detr_r50", small_detr | settings | {"train.max_steps": 1})
    events = list(detrkit.fit(experiment, told.data, tmp_path / "run"))
    (validated,) = [event for event in events if isinstance(event, Validated)]
    assert (validated.raw, validated.raw_seconds) == (None, 0.0)


def test_measuring_changes_no_weight(tmp_path: Path, told: Told, small_detr: dict[str, object]) -> None:
    losses = []
    for every in (1, 100):
        settings = small_detr | {"train.max_steps": 3, "train.update_ratio_every": every}
        events = detrkit.fit(detrkit.recipe("detr_r50", settings), told.data, tmp_path / str(every))
        losses.append([event.loss for event in events if isinstance(event, Stepped)])
    assert losses[0] == losses[1]
