"""The plan of a study of convergence: read as it was written, or refused with what is odd."""

import json
import os
from pathlib import Path

import pytest

from detrkit.errors import DetrkitError
from detrkit.study.outcome import is_over, note_divergence, read_outcome
from detrkit.study.pace import Pace
from detrkit.study.plan import Plan, make_plan, read_plan, write_plan
from detrkit.study.request import Request, read_request


def request_in(folder: Path) -> Request:
    return read_request(["shapes"], folder, "100s", longer=["shapes=200s"], command="detrkit study")


def plan_in(folder: Path) -> Plan:
    plan = make_plan(request_in(folder), {"cores": "2"}, {"shapes": Pace(0.5, 16, 100, 10)})
    write_plan(folder / "plan.json", plan)
    return plan


def test_a_plan_that_was_written_is_read(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    assert read_plan(tmp_path / "plan.json", request_in(tmp_path)) == plan
    assert plan.steps["shapes"] == (40, 200, 400)  # of half a second each, and a fifth for the sweep


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("pace.shapes.seconds", value) for value in ("x", 0, -1.0, None, float("nan"))),
        *(("pace.shapes.train_images", value) for value in ("x", 0, None)),
        *(("pace", value) for value in (5, {}, {"other": {}}, {"shapes": 5})),
        *(("steps.shapes.full", value) for value in ("x", 0, None, 10**400)),
        ("steps", {}),
        *(("machine", value) for value in (5, {"cores": 2}, None)),
        *(("command", value) for value in (5, None)),
        *(("asked", value) for value in (5, "x", None, [])),
        ("version", "1"),
        ("plan", "note"),
    ],
)
def test_an_odd_value_is_refused(tmp_path: Path, place: str, value: object) -> None:
    plan_in(tmp_path)
    path = tmp_path / "plan.json"
    inner = tree = json.loads(path.read_text())
    *parts, last = place.split(".")
    for part in parts:
        inner = inner[part]
    inner[last] = value
    path.write_text(json.dumps(tree))
    with pytest.raises(DetrkitError, match=r"plan\.json .*\.$") as caught:
        read_plan(path, request_in(tmp_path))
    assert place.partition(".")[0] in str(caught.value)


def test_what_a_later_release_may_add_is_passed_over(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    path = tmp_path / "plan.json"
    tree = json.loads(path.read_text())
    for part in (tree, tree["pace"]["shapes"], tree["steps"]["shapes"]):
        part["more"] = [1]
    path.write_text(json.dumps(tree))
    assert read_plan(path, request_in(tmp_path)) == plan


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"[]", b'{"version": 1}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(DetrkitError, match=r"plan\.json is not a study's plan of version 1"):
        read_plan(tmp_path / "plan.json", request_in(tmp_path))


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    plan_in(tmp_path)
    path = tmp_path / "plan.json"
    tree = json.loads(path.read_text())
    tree["asked"]["data"] = "x" * 100_000
    path.write_text(json.dumps(tree))
    with pytest.raises(DetrkitError, match="holds a study with data = ") as caught:
        read_plan(path, request_in(tmp_path))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"{}", b'{"reason": 5}'])
def test_what_a_run_left_that_cannot_be_read_is_told(tmp_path: Path, content: bytes) -> None:
    note_divergence(tmp_path, "the loss is not finite")
    (tmp_path / "log.jsonl").write_text("")
    assert read_outcome(tmp_path, 1e-3, 16).diverged == "the loss is not finite"
    (tmp_path / "diverged.json").write_bytes(content)
    with pytest.raises(DetrkitError, match=r"diverged\.json cannot be read .*: delete"):
        read_outcome(tmp_path, 1e-3, 16)


def test_a_pipe_in_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(DetrkitError, match=r"log\.jsonl cannot be read \(it is not a regular file\)"):
        is_over(tmp_path)
