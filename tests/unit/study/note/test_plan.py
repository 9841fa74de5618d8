"""The plan file, and what a full one costs."""

import json
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

COCO = Data("train2017", "val2017", 118_287, 5_000, ["cat"], "1f", "2e")


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


@pytest.mark.parametrize("name", ["/etc", "../../x", "..", ".", "", "a/b", "a\\b", "C:x", "a\0", "x" * 5000])
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
    with pytest.raises(DetrkitError, match=r"plan\.json, r50: .* from 1 on is expected"):
        read_plan(path)


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
