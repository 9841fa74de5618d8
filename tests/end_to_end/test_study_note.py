"""``detrkit study`` as a note, on a tiny dataset: what it leaves, and that a kill changes nothing of it."""

import json
import subprocess
import sys
from html import unescape
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple

import pytest
from click.testing import Result
from typer.testing import CliRunner

from detrkit.benchmark.results import Effort
from detrkit.cli.main import app
from detrkit.data.shapes import ShapesSettings, write_shapes
from detrkit.machine import describe_machine
from detrkit.report.markdown import escaped
from detrkit.study.note import planning
from detrkit.study.note.family import FAMILIES, members_of
from detrkit.study.note.note import plan_note
from detrkit.study.note.plan import Plan, Run, read_plan, write_plan
from detrkit.study.note.planning import data_of
from detrkit.study.note.request import read_request
from detrkit.study.note.shares import Amount, Trials
from detrkit.tuning.pace import Pace

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
    "model.backbone.levels": ["layer2"],
    "train.ema": 0.0,
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


def all_runs() -> dict[str, Run]:
    """All the runs of a note, of six steps each."""
    members = members_of(FAMILIES["shapes"], ("resnet18", "resnet34"), {**TINY, "train.ema": 0.9})
    return {name: Run(member.role, Amount(6, 3, None), member.settings) for name, member in members.items()}


def write(path: Path, data: Path, trials: Trials, planned: dict[str, Run]) -> Path:
    asked = read_request("note", data, RECIPES, train_images=8, backbones="resnet18,resnet34").asked()
    write_plan(path, Plan(asked, "", data_of(data), describe_machine(), {}, trials, EFFORT, planned))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, ShapesSettings(train_images=8, val_images=6, image_size=64))
    return folder


@pytest.fixture(scope="module")
def plan(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plan") / "plan.json", data, Trials(2, 2), runs())


class Twice(NamedTuple):
    """The note left alone, the one killed in steps, and how each process ended."""

    alone: Path
    killed: Path
    ends: dict[str, int]


def carried_out(plan: Path, data: Path, folder: Path, *moments: str) -> Twice:
    alone, killed = folder / "alone", folder / "killed"
    program = Path(__file__).with_name("note_killed.py")
    command = [sys.executable, program, plan, data, alone, killed, *moments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return Twice(alone, killed, json.loads(ran.stdout))


@pytest.fixture(scope="module")
def twice(data: Path, plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    moments = "runs/r18@3", "runs/r34_from_r18@3", "trials/0001@1", "r34"
    return carried_out(plan, data, tmp_path_factory.mktemp("notes"), *moments)


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


def require_kills(twice: Twice) -> None:
    ends = dict(twice.ends)
    assert ends.pop("alone") == ends.pop("end") == 0
    assert set(ends.values()) == {SIGKILL}
    for moment in ends:
        place, _, step = moment.partition("@")
        if place.startswith("runs/") and int(step) > 2:  # its first save is over
            assert json.loads((twice.killed / place / "run.json").read_text())["resumed"]
            assert not json.loads((twice.alone / place / "run.json").read_text())["resumed"]


def require_same(twice: Twice) -> None:
    files = [*twice.alone.rglob("model.safetensors"), *twice.alone.glob("runs/*/evaluation/detections.json")]
    assert files
    for path in files:
        assert path.read_bytes() == (twice.killed / path.relative_to(twice.alone)).read_bytes(), path
    alone, killed = results(twice.alone), results(twice.killed)
    for part in ("accuracy", "differences", "conclusions", "trials"):
        assert alone[part] == killed[part]


def test_a_note_killed_in_the_middle_of_steps_goes_on(twice: Twice) -> None:
    require_kills(twice)


def test_the_same_plan_gives_the_same_weights_accuracy_and_sentences(twice: Twice) -> None:
    require_same(twice)
    found = results(twice.killed)
    assert set(found["accuracy"]) >= set(runs()) - {"r18_tuned"}
    assert [trial["number"] for trial in found["trials"]["trials"]] == [0, 1]
    assert {pair["question"] for pair in found["differences"]} >= {
        "depth",
        "transfer",
        "decoders",
        "classics",
    }
    told = {one["question"] for one in found["conclusions"]}
    assert told >= {"depth", "transfer", "tuning", "decoders", "classics"}


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
    scoring = next(line for line in page.splitlines() if line.startswith("| scoring.kind |"))
    assert scoring.split(" | ")[1] == "focal"
    assert scoring.endswith("| not set |")  # FCOS, whose settings of a DETR's objective mean nothing
    found = results(twice.alone)
    for one in [*found["conclusions"], *found["measured_times"]]:
        assert escaped(one["sentence"]) in page
        assert one["sentence"] in unescape((twice.alone / "report.html").read_text())
    assert {one["question"] for one in found["measured_times"]} == {"times"}


def command(*words: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, words)], catch_exceptions=False)


def test_the_command_prints_the_table_and_the_sentences_of_a_note(
    twice: Twice, data: Path, plan: Path
) -> None:
    """Of one that is over, of which no step is done again."""
    before = {path: path.stat().st_mtime_ns for path in twice.killed.rglob("model.safetensors")}
    ran = command("--plan", plan, "--data", data, "--out", twice.killed)
    assert ran.exit_code == 0
    found = results(twice.killed)
    for name, figures in found["accuracy"].items():
        interval = f"{figures['interval']['low']:.3f} to {figures['interval']['high']:.3f}"
        line = next(one for one in ran.stdout.splitlines() if one.split()[:1] == [name])
        assert f"{figures['AP']:.3f}" in line
        assert interval in line
    for one in [*found["conclusions"], *found["measured_times"]]:
        assert one["sentence"] in ran.stdout
    assert "steps of the note are over." in ran.stderr
    assert "Trial" not in ran.stderr
    assert {path: path.stat().st_mtime_ns for path in twice.killed.rglob("model.safetensors")} == before


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
        (["--plan", "PLAN", "--seed", "0"], "--seed is decided by"),
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


def test_a_budget_becomes_a_plan(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure_pace", lambda *_: Pace(start=1.0, step=0.5, validation=0.25))
    heard: list[Any] = []
    for budget, tuned in (("10m", True), ("30s", False)):
        request = read_request(
            "note", data, RECIPES, train_images=8, budget=budget, backbones="resnet18,resnet34", seed=3
        )
        made = plan_note(request, tmp_path / budget, heard.append)
        assert made == read_plan(tmp_path / budget / "plan.json")
        assert ("r18_tuned" in made.runs, made.trials.number > 0) == (tuned, tuned)
        amounts = {run.amount for run in made.runs.values()}
        (amount,) = amounts
        assert amount.steps == int((amount.seconds or 0) / 0.5)
        assert {run.settings.train.seed for run in made.runs.values()} == {3}
        assert plan_note(request, tmp_path / budget, heard.append) == made
    assert {event.recipe for event in heard} >= {"r18", "r34", "plain", "faster_rcnn", "retinanet", "fcos"}
    assert "r34_from_r18" not in {event.recipe for event in heard}  # its pace is that of r34


@pytest.mark.long
def test_a_whole_note_killed_in_every_training_step_is_the_same(data: Path, tmp_path: Path) -> None:
    plan = write(tmp_path / "plan.json", data, Trials(6, 9), all_runs())
    folders = ("r18", "r34", "r34_from_r18", "conditional", "plain", "faster_rcnn", "fcos")
    moments = [f"runs/{name}@{step}" for name in folders for step in (1, 5)]
    moments += ["trials/0000@2", "trials/0003@1", "trials/0005@1", "r18", "fcos"]
    order = [*moments[:6], *moments[14:17], *moments[6:14], *moments[17:]]
    twice = carried_out(plan, data, tmp_path, *order)
    require_kills(twice)
    require_same(twice)
    assert len(results(twice.killed)["trials"]["trials"]) == 6
