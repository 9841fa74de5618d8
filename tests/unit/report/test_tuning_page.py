import re
from pathlib import Path
from typing import Any

import pytest

from detrkit.report.markdown import write_markdown
from detrkit.report.page import to_html
from detrkit.report.tuning import tuning_document
from detrkit.tuning.outcome import Outcome, Point
from detrkit.tuning.plan import Plan
from detrkit.tuning.request import Request, read_request
from detrkit.tuning.results import Results

SECTIONS = ["overview", "importance", "slices", "history", "trials"]


@pytest.fixture(scope="module")
def request_() -> Request:
    searches = ["train.precision=fp32,bf16", "loss.giou=0.5:8"]
    return read_request(
        "shapes", Path("data"), 6, searches=searches, command="detrkit tune shapes --data data"
    )


def outcome(number: int, fate: Any, aps: list[float], reason: str = "", **more: Any) -> Outcome:
    settings = {
        "optim.lr": 10.0 ** -(number + 2),
        "optim.backbone_lr": 1e-4,
        "optim.weight_decay": 1e-4,
        "train.precision": "bf16" if number % 2 else "fp32",
        "loss.giou": 2.0 + number,
    }
    curve = [Point(10 * (place + 1), ap, 9.0 - place) for place, ap in enumerate(aps)]
    value = aps[-1] if aps else None
    return Outcome(number, fate, more.get("settings", settings), value, curve, reason, 3.0)


@pytest.fixture(scope="module")
def results(request_: Request) -> Results:
    found = [
        outcome(0, "ended", [0.0, 0.1, 0.25]),
        outcome(1, "pruned", [0.0]),
        outcome(2, "ended", [0.1, 0.3, 0.432]),
        outcome(3, "failed", [], "the loss is nan in the batch of <b>.png"),
        outcome(4, "lost", [], settings={}),
        outcome(5, "running", [0.2]),
    ]
    importance = {"optim.lr": 0.75, "optim.weight_decay": 0.25}
    return Results(request_, Plan(30, 120, 100), found, importance)


def test_the_page_has_what_was_best_what_mattered_and_how_it_went(results: Results) -> None:
    html = to_html(tuning_document(results))
    assert re.findall(r'<section id="([\w-]+)"', html) == SECTIONS
    assert "Trial 2 was best" in html
    assert "0.432" in html
    assert "0.250" in html  # what the recipe's own settings came to
    assert "2 ended, 1 pruned, 1 failed, 1 lost, 1 running" in html
    # charts of importance, one for each search, the history and the curves
    assert html.count("<svg") == 1 + 5 + 2
    assert "&lt;b&gt;.png" in html
    assert "<b>.png" not in html


def test_its_table_has_a_row_for_every_trial(results: Results) -> None:
    html = to_html(tuning_document(results))
    table = html[html.index("All trials") :]
    assert table.count('<th scope="row">') == 6


def test_it_is_written_in_markdown_too(results: Results, tmp_path: Path) -> None:
    write_markdown(tuning_document(results), tmp_path / "tune.md")
    assert "| 2 | 0.432 | 7 | 30 |" in (tmp_path / "tune.md").read_text()
    assert len(list((tmp_path / "tune_files").glob("*.svg"))) == 8


@pytest.mark.parametrize("fate", ["running", "lost", "failed"])
def test_a_study_in_which_no_trial_has_come_to_its_end_has_a_page(request_: Request, fate: str) -> None:
    found = Results(request_, Plan(30, None, 100), [outcome(0, fate, [])], {})
    html = to_html(tuning_document(found))
    assert re.findall(r'<section id="([\w-]+)"', html) == SECTIONS
    assert "No trial has come to its end yet." in html
    assert "There are too few trials to tell." in html
