"""``detrkit study`` as a note, on a tiny dataset: what it leaves, and that a kill changes nothing of it."""

import json
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

import pytest

from detrkit.benchmark.results import Effort
from detrkit.data.shapes import ShapesSettings, write_shapes
from detrkit.machine import describe_machine
from detrkit.study.note.family import members_of
from detrkit.study.note.plan import Plan, Run, write_plan
from detrkit.study.note.planning import data_of
from detrkit.study.note.request import read_request
from detrkit.study.note.shares import Amount, Trials

pytestmark = pytest.mark.slow

TINY = {
    "data.short_sides": [64],
    "data.max_size": 64,
    "data.batch_size": 2,
    "data.workers": 0,
    "model.transformer.width": 32,
    "model.transformer.heads": 4,
    "model.transformer.feedforward": 64,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "train.trackers": [],
}
EFFORT = Effort(turns=1, images=1, batches=(), sizes=(), training_batch=0, precisions=("fp32",), memory=False)
RECIPES = ("shapes", "shapes_plain")


def runs() -> dict[str, Run]:
    """Every kind of run, of a few steps each."""
    members = members_of(RECIPES, ("resnet18", "resnet34"), {**TINY, "train.validate_raw": False})
    wanted = [name for name in members if name not in ("faster_rcnn", "retinanet")]
    return {name: Run(members[name].role, Amount(4, 2, None), members[name].settings) for name in wanted}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, ShapesSettings(train_images=8, val_images=6, image_size=64))
    return folder


@pytest.fixture(scope="module")
def plan(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    asked = read_request("note", data, RECIPES, train_images=8, backbones="resnet18,resnet34").asked()
    write_plan(path, Plan(asked, "", data_of(data), describe_machine(), {}, Trials(3, 2), EFFORT, runs()))
    return path


class Twice(NamedTuple):
    """The note left alone, the one killed in steps, and how each process ended."""

    alone: Path
    killed: Path
    ends: dict[str, int]


@pytest.fixture(scope="module")
def twice(data: Path, plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    folder = tmp_path_factory.mktemp("notes")
    alone, killed = folder / "alone", folder / "killed"
    program = Path(__file__).with_name("note_killed.py")
    command = [sys.executable, program, plan, data, alone, killed]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return Twice(alone, killed, json.loads(ran.stdout))


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def test_a_note_killed_in_the_middle_of_steps_goes_on(twice: Twice) -> None:
    ends = dict(twice.ends)
    assert ends.pop("alone") == ends.pop("end") == 0
    assert set(ends.values()) == {SIGKILL}
    for run in ("r18", "r34_from_r18"):
        assert json.loads((twice.killed / "runs" / run / "run.json").read_text())["resumed"]
        assert not json.loads((twice.alone / "runs" / run / "run.json").read_text())["resumed"]


def test_the_same_plan_gives_the_same_weights_and_detections_to_the_last_bit(twice: Twice) -> None:
    alone = sorted(path.relative_to(twice.alone) for path in twice.alone.rglob("model.safetensors"))
    assert {path.parts[1] for path in alone} >= set(runs()) - {"r18_tuned"}
    for path in alone:
        assert (twice.alone / path).read_bytes() == (twice.killed / path).read_bytes(), path
    for path in twice.alone.glob("runs/*/evaluation/detections.json"):
        assert path.read_bytes() == (twice.killed / path.relative_to(twice.alone)).read_bytes(), path


def test_the_same_plan_gives_the_same_accuracy_and_sentences(twice: Twice) -> None:
    alone, killed = results(twice.alone), results(twice.killed)
    for part in ("accuracy", "differences", "conclusions", "trials"):
        assert alone[part] == killed[part]
    assert [trial["number"] for trial in killed["trials"]["trials"]] == [0, 1, 2]
    assert {pair["question"] for pair in alone["differences"]} >= {"depth", "transfer", "decoders"}
    told = {one["question"] for one in alone["conclusions"]}
    assert told >= {"depth", "transfer", "tuning", "decoders"}
