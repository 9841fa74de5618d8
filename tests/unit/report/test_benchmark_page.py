"""The page, the picture and the tables of a benchmark whose figures are made up."""

import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from detrkit.benchmark.results import (
    Accuracy,
    Against,
    ClassAccuracy,
    Cost,
    Effort,
    Memory,
    Results,
    Row,
    Speed,
    Spread,
    Stages,
)
from detrkit.cli.benchmark_lines import notes, tables
from detrkit.report.benchmark import benchmark_document
from detrkit.report.content import Drawings, Missing, Table
from detrkit.report.markdown import write_markdown
from detrkit.report.page import to_html
from detrkit.report.pareto import Point, frontier
from detrkit.report.validation import FIGURES

SECTIONS = ["overview", "pareto", "accuracy", "difference", "classes", "costs", "speed", "conditions"]


def accuracy(ap: float, against: Against | None) -> Accuracy:
    figures = {name: ap / (place + 1) for place, name in enumerate(FIGURES)} | {"APl": -1.0}
    per_class = {"<b>кошка | $x^2$": ClassAccuracy(ap, ap, -1.0, ap, ap, 12)}
    return Accuracy(figures, ap - 0.05, ap + 0.05, against, per_class, 99)


def speed(milliseconds: float, network_ends: bool = True) -> Speed:
    seconds = milliseconds / 1e3
    parts = (0.2 * seconds, 0.7 * seconds, 0.1 * seconds)
    stages = Stages(*parts) if network_ends else Stages(parts[0], parts[1] + parts[2], None)
    turns = Spread(seconds, 0.9 * seconds, 1.1 * seconds)
    throughput = {
        1: Spread(1 / seconds, 1.0, 2.0),
        4: Spread(2.5 / seconds, 2.0, 3.0),
        8: Spread(2 / seconds, 2.0, 3.0),
    }
    return Speed(seconds, 1.5 * seconds, turns, stages, throughput)


def row(name: str, kind: Any, found: Accuracy | None, milliseconds: float | None = None) -> Row:
    timed = milliseconds is not None
    own = kind in ("weights", "recipe")
    return Row(
        name=name,
        kind=kind,
        source=f"runs/{name}",
        image_size="480, at most 800" if timed else "",
        accuracy=found,
        cost=Cost(41_300_000, 41_000_000, 166_000_000, {"800x1137": 86_600_000_000}) if own else None,
        speed={one: speed(milliseconds, own) for one in ("fp32", "bf16")} if timed else {},
        memory=Memory({"fp32": 400 * 2**20, "bf16": 300 * 2**20}, 2**31) if own else None,
        training={"fp32": Spread(2.34, 2.0, 3.0)} if own else {},
        notes=() if own else ("a note with <i>signs</i>",),
    )


@pytest.fixture(scope="module")
def results() -> Results:
    rows = (
        row("detr_r50_on_bccd_thirty_minutes", "weights", accuracy(0.40, None), 120.0),
        row("faster_rcnn", "weights", accuracy(0.35, Against(-0.05, -0.09, -0.01, 0.01)), 60.0),
        row("retinanet", "weights", accuracy(0.34, Against(-0.06, -0.13, 0.02, 0.2)), 150.0),
        row("yolo & <co>", "detections", accuracy(0.45, Against(0.05, 0.01, 0.09, 0.99))),
        row("random", "recipe", None, 90.0),
        row("other.onnx", "onnx", None, 30.0),
    )
    return Results(
        command="detrkit benchmark a b --data bccd",
        data="bccd",
        split="val",
        images=73,
        objects=800,
        classes=1,
        date="2026-01-01T00:00:00+00:00",
        device="cpu",
        machine={"processor": "some processor", "threads": "2", "torch": "2.14"},
        effort=Effort(),
        reference="detr_r50_on_bccd_thirty_minutes",
        rows=rows,
        notes=("The entrants do not see the same pixels.",),
    )


def cells(results: Results, section: str) -> list[Table]:
    found = next(one for one in benchmark_document(results).sections if one.name == section)
    return [block for block in found.blocks if isinstance(block, Table)]


def test_the_page_says_what_was_compared_and_escapes_every_name(results: Results) -> None:
    html = to_html(benchmark_document(results))
    HTMLParser().feed(html)
    assert re.findall(r'<section id="([\w-]+)"', html) == SECTIONS
    assert "yolo &amp; &lt;co&gt;" in html
    assert "<b>кошка" not in html
    assert "<i>signs" not in html
    assert "The entrants do not see the same pixels." in html
    assert "some processor" in html


def test_the_page_in_markdown_has_the_same_tables_and_its_pictures_beside_it(
    results: Results, tmp_path: Path
) -> None:
    write_markdown(benchmark_document(results), tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.count("\n## ") == len(SECTIONS)
    assert sorted(file.name for file in (tmp_path / "report_files").iterdir()) == [
        "pareto-bf16.svg",
        "pareto-fp32.svg",
    ]


def test_a_difference_is_called_one_only_where_its_interval_does_not_hold_0(results: Results) -> None:
    (table,) = cells(results, "difference")
    assert {str(one[0]): one[-1] for one in table.rows} == {
        "detr_r50_on_bccd_thirty_minutes": "the reference",
        "faster_rcnn": "detr_r50_on_bccd_thirty_minutes is better on such images",
        "retinanet": "no difference that these images can show",
        "yolo & <co>": "yolo & <co> is better on such images",
    }


def test_the_parts_of_the_latency_add_up_to_the_whole_in_the_table(results: Results) -> None:
    table = cells(results, "speed")[1]
    for _, before, network, after, whole in table.rows:
        parts = [part for part in (before, network, after) if part is not None]
        assert sum(parts) == pytest.approx(whole)
    assert table.rows[-1][3] is None  # where a network ends is not known of an ONNX file


def test_the_best_batch_is_the_one_with_the_highest_throughput(results: Results) -> None:
    (_, p50, p95, _, single, best, batch, _), *_ = cells(results, "speed")[0].rows
    assert (p50, p95, batch) == (120.0, pytest.approx(180.0), 4)
    assert (single, best) == (pytest.approx(1 / 0.12), pytest.approx(2.5 / 0.12))


def test_the_frontier_is_of_those_that_nobody_beats_in_both() -> None:
    def point(name: str, seconds: float, ap: float) -> Point:
        return Point(name, seconds, ap, ap, ap)

    fast, good, slow, worse = (
        point("a", 1.0, 0.2),
        point("b", 2.0, 0.4),
        point("c", 3.0, 0.4),
        point("d", 2.0, 0.3),
    )
    assert frontier([slow, worse, good, fast]) == [fast, good]
    assert frontier([fast]) == [fast]
    assert frontier([point("x", 1.0, 0.2), point("y", 1.0, 0.3)]) == [point("y", 1.0, 0.3)]


def test_the_picture_says_in_words_who_is_on_the_frontier(results: Results) -> None:
    pareto = next(one for one in benchmark_document(results).sections if one.name == "pareto")
    (drawings,) = [block for block in pareto.blocks if isinstance(block, Drawings)]
    assert [one.name for one in drawings.drawings] == ["pareto-fp32", "pareto-bf16"]
    assert (
        "On the frontier: faster_rcnn, detr_r50_on_bccd_thirty_minutes." in drawings.drawings[0].alternative
    )
    assert "retinanet 0.340 at 150 ms" in drawings.drawings[0].alternative


def test_what_was_not_measured_is_said_to_be_missing(results: Results) -> None:
    alone = tuple(one for one in results.rows if one.kind == "detections")
    document = benchmark_document(dataclasses.replace(results, rows=alone, reference=alone[0].name))
    missing = [
        one.name for one in document.sections if any(isinstance(block, Missing) for block in one.blocks)
    ]
    assert missing == ["pareto", "costs", "speed"]
    document = benchmark_document(dataclasses.replace(results, rows=results.rows[-2:], reference=None))
    missing = [
        one.name for one in document.sections if any(isinstance(block, Missing) for block in one.blocks)
    ]
    assert missing == ["pareto", "accuracy", "difference", "classes"]
    to_html(document)


def test_what_holds_for_several_is_said_once(results: Results) -> None:
    assert list(notes(results)) == [
        "The entrants do not see the same pixels.",
        "yolo & <co>, other.onnx: a note with <i>signs</i>.",
    ]


def test_a_terminal_of_80_columns_shows_every_figure_whole(results: Results) -> None:
    written = io.StringIO()
    console = Console(file=written, width=80)
    for table in tables(results):
        console.print(table)
    text = written.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for figure in ("0.400", "-0.050", "-0.090", "86.6", "2,048", "120", "180", "20.8"):
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d,])", text), figure
