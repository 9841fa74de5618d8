"""The plan file, and what a full one costs."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from detrkit.benchmark.results import Effort
from detrkit.errors import DetrkitError
from detrkit.study.note.cost import MINUTES, costs_of
from detrkit.study.note.family import FAMILIES, members_of
from detrkit.study.note.plan import (
    Data,
    Plan,
    Run,
    read_plan,
    require_asked,
    require_same_data,
    require_same_runs,
    write_plan,
)
from detrkit.study.note.request import read_request
from detrkit.study.note.shares import Amount, Trials
from detrkit.study.note.work import Work

COCO = Data("train2017", "val2017", 118_287, 5_000, ["cat"], "1f", "2e")

NO_FOLDERS = ["/etc", "../../x", "..", ".", "", "a/b", "a\\b", "C:x", "a\0", "x" * 5000, "кот" * 50, "\ud800"]
NO_FOLDERS.append("tuning")  # has the trials
"""Names of runs; a file's name may have 255 bytes."""


def plan_of(recipes: tuple[str, ...] = FAMILIES["detr_r50"], **asked: Any) -> Plan:
    members = members_of(recipes, ("resnet50", "resnet101"), {})
    runs = {name: Run(member.role, Amount(100, 3, 20.0), member.settings) for name, member in members.items()}
    request = read_request("note", Path("coco"), recipes, train_images=118_287, **asked)
    return Plan(request.asked(), "detrkit study", COCO, {"threads": "1"}, {}, Trials(5, 30), Effort(), runs)


def test_a_plan_that_was_written_is_read(tmp_path: Path) -> None:
    plan = plan_of()
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_a_run_deleted_from_the_file_is_not_in_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan_of())
    tree = json.loads(path.read_text())
    del tree["runs"]["conditional"]
    path.write_text(json.dumps(tree))
    assert "conditional" not in read_plan(path).runs
    del tree["runs"]["r50"]
    path.write_text(json.dumps(tree))
    with pytest.raises(DetrkitError, match="no run of the role 'smaller'"):
        read_plan(path)


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_a_run_whose_folder_would_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """What is in the way of a run is deleted."""
    path = tmp_path / "plan.json"
    write_plan(path, plan_of())
    tree = json.loads(path.read_text())
    for part in ("runs", "settings"):
        tree[part][name] = tree[part].pop("r50")
    path.write_text(json.dumps(tree))
    with pytest.raises(
        DetrkitError, match=r"plan\.json names a run .*, which is the name of no folder"
    ) as caught:
        read_plan(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("entry", ["steps", "validations"])
@pytest.mark.parametrize("value", [0, -1, "x", None])
def test_a_run_of_no_length_is_refused(tmp_path: Path, entry: str, value: object) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan_of())
    tree = json.loads(path.read_text())
    tree["runs"]["r50"][entry] = value
    path.write_text(json.dumps(tree))
    with pytest.raises(DetrkitError, match=rf"plan\.json, r50: .* at `\$\.{entry}`.*: restore it"):
        read_plan(path)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        *(("runs.r50.seconds", value, "$.seconds") for value in ("x", -1.0, 0, float("nan"), [1])),
        ("runs.r50.seconds", 10**400, "out of range"),
        *(("runs.r50.role", value, "$.role") for value in ("smallest", None, {})),
        *(("runs.r50.steps", value, "$.steps") for value in (True, 1.5, 10**400)),
        *(("runs", value, "$.runs") for value in (None, [], {"r50": 5}, {"r50": None})),
        *(("settings.r50", value, "$.settings") for value in ("xy", 5, None, [])),
        ("settings", {}, "r50: there are no settings of it"),
        ("settings.r50.optim", "xy", "optim"),
        *(("recipes", value, "$.recipes") for value in (5, [], [5], None, "shapes")),
        *(("backbones", value, "$.backbones") for value in ("resnet18", ["resnet18"], [1, 2])),
        *(("command", value, "$.command") for value in (5, None, ["detrkit"])),
        *(("budget", value, "$.budget") for value in (5, {})),
        *(("seed", value, "$.seed") for value in ("x", -1, 1e400)),
        *(("set", value, "$.set") for value in (5, "x", None)),
        *(("machine", value, "$.machine") for value in (5, "x", {"cores": 2})),
        *(("paces", value, "$.paces") for value in (5, {"r50": 5}, {"r50": {"step": "x"}})),
        *(
            ("trials", value, "$.trials")
            for value in (5, {"number": 3, "steps": "x"}, {"number": -1, "steps": 1})
        ),
        *(("data.train_images", value, "$.data.train_images") for value in (0, "x", None)),
        *(("data.categories", value, "$.data.categories") for value in (5, [5], "cat")),
        *(("benchmark", value, "$.benchmark") for value in (5, {"turns": "x"}, {"precisions": ["fp8"]})),
        ("version", 2, "$.version"),
        ("plan", "x" * 5000, "$.plan"),
    ],
)
def test_an_odd_value_is_refused_when_the_plan_is_read(
    tmp_path: Path, place: str, value: object, words: str
) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, plan_of())
    tree = json.loads(path.read_text())
    *parts, last = place.split(".")
    inner = tree
    for part in parts:
        inner = inner[part]
    inner[last] = value
    path.write_text(json.dumps(tree))
    with pytest.raises(DetrkitError) as caught:
        read_plan(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert words in text
    assert len(text) < 1000


def test_what_a_later_release_may_add_is_passed_over(tmp_path: Path) -> None:
    plan, path = plan_of(), tmp_path / "plan.json"
    write_plan(path, plan)
    tree = json.loads(path.read_text())
    for part in (tree, tree["data"], tree["trials"], tree["benchmark"], tree["runs"]["r50"]):
        part["more"] = [1]
    path.write_text(json.dumps(tree))
    assert read_plan(path) == plan


def test_a_command_that_is_no_unicode_is_written_and_read(tmp_path: Path) -> None:
    """As a shell hands on the name of a file that is not UTF-8."""
    write_plan(tmp_path / "plan.json", plan_of()._replace(command="detrkit study --data \udcff"))
    assert read_plan(tmp_path / "plan.json").command == "detrkit study --data \\udcff"


def test_a_pipe_in_place_of_a_plan_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(DetrkitError, match="not a regular file"):
        read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"{"])
def test_a_damaged_result_of_a_step_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    work = Work(plan_of(), tmp_path, tmp_path, lambda event: None)
    work.keep("data", {"a": "\udcff"})
    assert work.result("data") == {"a": "\\udcff"}
    (tmp_path / "results" / "data.json").write_bytes(content)
    with pytest.raises(DetrkitError, match=r"data\.json cannot be read .*: delete it, and its step is done"):
        work.result("data")


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "[]", '{"version": 1, "plan": "convergence"}', '{"version": 0}']
)
def test_a_file_that_is_no_plan_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DetrkitError, match=r"plan\.json .*plan"):
        read_plan(tmp_path / "plan.json")


def test_another_request_plan_or_dataset_is_told(tmp_path: Path) -> None:
    plan = plan_of()
    asked = read_request("note", Path(), [], train_images=118_287, budget="3h").asked()
    with pytest.raises(DetrkitError, match="holds a study with budget = '2h', not '3h'"):
        require_asked(plan, asked, tmp_path)
    require_same_runs(plan, plan._replace(machine={"threads": "2"}), tmp_path)
    with pytest.raises(DetrkitError, match="holds a study of another plan"):
        require_same_runs(plan, plan._replace(trials=Trials(6, 30)), tmp_path)
    with pytest.raises(DetrkitError, match="train_images = 118287, but coco has 5"):
        require_same_data(plan, COCO._replace(train_images=5), "coco")


def test_the_cost_of_an_epoch_is_that_of_the_page_on_scaling() -> None:
    text = (Path(__file__).parents[4] / "docs/scaling.md").read_text()
    table = text[text.index("| minutes of an epoch on A100 SXM, GPUs |") :]
    for backbone, minutes in MINUTES.items():
        found = re.search(rf"\| detr_{backbone.replace('resnet', 'r')} \| ([\d.]+) \|", table)
        assert found
        assert float(found[1]) == minutes


def test_gpu_hours_are_epochs_times_the_minutes_of_one() -> None:
    members = members_of(("detr_r50",), ("resnet50", "resnet101"), {})
    half = Amount(118_287 // 2, 1, None)
    runs = {name: Run(members[name].role, half, members[name].settings) for name in ("r50", "r101")}
    small, large = costs_of(runs, Trials(12, 100), 118_287)
    # a step sees 2 images, so these are the steps of an epoch, less one image
    assert small.epochs == pytest.approx(1, rel=1e-4)
    assert small.hours == pytest.approx(25.7 / 60, rel=1e-4)
    assert large.hours == pytest.approx(35.8 / 60, rel=1e-4)
