"""``detrkit study`` as a note, on a tiny dataset: what it leaves, and that a kill changes nothing of it."""

import json
import subprocess
import sys
from html import unescape
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from detrkit.benchmark.results import Effort
from detrkit.cli.main import app
from detrkit.data.shapes import ShapesSettings, write_shapes
from detrkit.machine import describe_machine
from detrkit.report.markdown import escaped
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
    # FCOS halves maps of 64 pixels down to one, of which torch 2.14 gets gradients wrong in bf16 on a CPU
    "train.precision": "fp32",
}
EFFORT = Effort(turns=1, images=1, batches=(), sizes=(), training_batch=0, precisions=("fp32",), memory=False)
RECIPES = ("shapes", "shapes_plain")


def runs() -> dict[str, Run]:
    """Every kind of run, of a few steps each."""
    members = members_of(RECIPES, ("resnet18", "resnet34"), {**TINY, "train.validate_raw": False})
    wanted = [name for name in members if name not in ("faster_rcnn", "retinanet")]
    long, short = Amount(4, 2, None), Amount(2, 1, None)
    lengths = {name: long if name in ("r18", "r34_from_r18") else short for name in wanted}
    return {name: Run(members[name].role, lengths[name], members[name].settings) for name in wanted}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, ShapesSettings(train_images=8, val_images=6, image_size=64))
    return folder


@pytest.fixture(scope="module")
def plan(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    asked = read_request("note", data, RECIPES, train_images=8, backbones="resnet18,resnet34").asked()
    write_plan(path, Plan(asked, "", data_of(data), describe_machine(), {}, Trials(2, 2), EFFORT, runs()))
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
    assert [trial["number"] for trial in killed["trials"]["trials"]] == [0, 1]
    assert {pair["question"] for pair in alone["differences"]} >= {"depth", "transfer", "decoders"}
    told = {one["question"] for one in alone["conclusions"]}
    assert told >= {"depth", "transfer", "tuning", "decoders"}


def test_the_report_has_the_chapters_of_a_note_and_every_sentence(twice: Twice) -> None:
    page = (twice.alone / "report.md").read_text()
    chapters = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert chapters == [
        "Data preparation",
        "Architecture",
        "Training",
        "Monitoring and evaluation",
        "Benchmarking",
        "Conclusions",
    ]
    found = results(twice.alone)
    for one in [*found["conclusions"], *found["measured_times"]]:
        assert escaped(one["sentence"]) in page
        assert one["sentence"] in unescape((twice.alone / "report.html").read_text())
    assert {one["question"] for one in found["measured_times"]} == {"times"}


def command(*words: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, words)], catch_exceptions=False)


def test_a_full_note_tells_its_cost_and_begins_with_yes_alone(data: Path, tmp_path: Path) -> None:
    ran = command("--plan", "full", "--data", data, "--out", tmp_path / "full")
    assert ran.exit_code == 2
    assert "Recipes: detr_r50, conditional_r50, dab_dn_r50" in ran.stderr
    # 500 epochs of 8 images where COCO has 118,287, at 25.7 minutes for an epoch of these
    assert f"r50: {500 * 8 / 118_287 * 25.7 / 60:,.1f} for 500 epochs" in ran.stdout
    assert "Together about" in ran.stdout
    assert "add it" in ran.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--plan", "notes"], "--plan notes is none: take note, convergence, full"),
        (["--rate", "1e-3"], "--rate is for --plan convergence"),
        (["--longer", "shapes=1m"], "--longer is for --plan convergence"),
        (["--plan", "convergence", "--budget", "1m"], "RECIPE... is missing"),
        (["--plan", "convergence", "shapes"], "--budget is missing"),
        (["--plan", "convergence", "--yes"], "--yes is for a note"),
        (["--plan", "PLAN", "--budget", "1m"], "--budget is decided by"),
        (["--plan", "PLAN", "shapes"], "RECIPE is decided by"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_told(
    words: list[str], told: str, data: Path, plan: Path, tmp_path: Path
) -> None:
    given = [str(plan) if word == "PLAN" else word for word in words]
    ran = command("--data", data, "--out", tmp_path / "out", *given)
    assert ran.exit_code == 2
    assert told in ran.stderr.replace("\n", " ")


def test_a_folder_with_another_plan_or_something_else_is_refused(
    twice: Twice, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").touch()
    ran = command("--data", data, "--out", tmp_path, "--budget", "1m")
    assert "is not empty and holds no study" in ran.stderr.replace("\n", " ")
    ran = command("--data", data, "--out", twice.alone, "--budget", "1m", *RECIPES)
    assert ran.exit_code == 2
    assert "holds a study with" in ran.stderr


@pytest.mark.long
def test_a_note_within_a_budget_is_whole_and_its_plan_repeats_it(tmp_path: Path) -> None:
    data, first, second = tmp_path / "shapes", tmp_path / "first", tmp_path / "second"
    write_shapes(data, ShapesSettings(train_images=64, val_images=24, image_size=64))
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    shared = ["--data", data, "--out"]
    ran = command(*shared, first, "--budget", "3m", "--backbones", "resnet18,resnet34", *settings)
    assert ran.exit_code == 0, ran.output
    assert "Recipes: shapes, shapes_conditional, shapes_plain, since" in ran.stderr
    plan = json.loads((first / "plan.json").read_text())
    found = results(first)
    seconds = {run["seconds"] for run in plan["runs"].values()}
    assert len(seconds) == 1
    assert set(found["accuracy"]) >= set(plan["runs"]) - {"r18_tuned"}
    assert {name: run["steps"] for name, run in found["runs"].items()}.items() <= {
        name: run["steps"] for name, run in plan["runs"].items()
    }.items()
    assert len(found["trials"]["trials"]) == plan["trials"]["number"]
    cheaper = plan | {"benchmark": msgspec.to_builtins(EFFORT)}
    (tmp_path / "again.json").write_text(json.dumps(cheaper))
    ran = command(*shared, second, "--plan", tmp_path / "again.json")
    assert ran.exit_code == 0, ran.output
    for part in ("accuracy", "differences", "conclusions", "trials"):
        assert results(second)[part] == found[part]
