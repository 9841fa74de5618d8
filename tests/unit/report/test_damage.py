"""Run folders that are damaged, or made to do harm: a report tells what cannot be read, and has the rest."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detrkit.data.formats.recognise import read_split
from detrkit.errors import DetrkitError
from detrkit.evaluation.analysis import analyse, write
from detrkit.evaluation.coco import read_results
from detrkit.evaluation.judged import judge
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.gather import gather as examine
from detrkit.report.content import Document, Missing
from detrkit.report.differences import from_recipe
from detrkit.report.evidence import gather
from detrkit.report.markdown import write_markdown
from detrkit.report.mistakes import mistakes_section
from detrkit.report.overview import overview, side_by_side
from detrkit.report.page import to_html
from detrkit.report.record import read_run, told_apart
from detrkit.report.validation import validation_section
from detrkit.report.write import make_report, write_page


@pytest.fixture
def run(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A run with its analysis, whose data is gone."""
    run = write_run(tmp_path)
    catalog = read_split(tmp_path / "data", "val")
    judged = judge(catalog, read_results(run / "evaluation" / "detections.json", catalog))
    write(run / "evaluation", judged, analyse(judged))
    shutil.rmtree(tmp_path / "data")
    return run


def said(document: Document, section: str) -> str:
    (found,) = (one for one in document.sections if one.name == section)
    return "\n".join(block.text for block in found.blocks if isinstance(block, Missing))


def put(path: Path, place: str, value: object) -> None:
    """Replace a value of a json file; numbers name places in lists."""
    inner: Any = json.loads(path.read_text())
    tree = inner
    *parts, last = place.split(".")
    for part in parts:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    path.write_text(json.dumps(tree))


def test_a_sound_run_is_not_called_damaged(run: Path) -> None:
    record = read_run(run)
    assert (record.damaged, record.why) == ([], {})


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        *(("run.json", "data", value) for value in (5, None, [])),
        *(("run.json", "machine", value) for value in ("x", {"cores": 2})),
        *(("run.json", "seconds", value) for value in ("x", -1, float("nan"), 10**400)),
        *(("run.json", "notes", value) for value in (5, [5])),
        ("run.json", "splits", ["val"]),
        ("run.json", "images", {"val": "12"}),
        ("run.json", "parameters", "many"),
        ("run.json", "recipe", 5),
        *(("evaluation/metrics.json", "AP", value) for value in ("x", None, 50, float("nan"), 10**400)),
        *(("evaluation/metrics.json", "per_class", value) for value in (5, {"a": 5}, {"a": {"AP": "x"}})),
        *(("evaluation/analysis.json", "detections", value) for value in ("x", None, -1, 1.5)),
        *(("evaluation/analysis.json", "operating.overall", value) for value in (5, {"threshold": 0.5})),
        ("evaluation/analysis.json", "operating.overall.f1", None),
        *(("evaluation/analysis.json", "sweep.scores", value) for value in ([], [0.5], ["x"], [None])),
        *(("evaluation/analysis.json", "overlap.edges", value) for value in ([0.5], [0.5, 1], "x")),
        *(("evaluation/analysis.json", "overlap.recall", value) for value in ([], {"all": [1.0]})),
        ("evaluation/analysis.json", "overlap.recall", {str(name): [1.0] * 10 for name in range(5000)}),
        ("evaluation/analysis.json", "overlap.mean", None),
        *(
            ("evaluation/analysis.json", "confusion.cells", value)
            for value in ([[0, 99, 1]], [[0, 0]], [[-1, 0, 1]])
        ),
        *(("evaluation/analysis.json", "confusion.classes", value) for value in ([], [5], "x")),
        ("evaluation/analysis.json", "confusion.pairs", [{"true": 5}]),
        *(("evaluation/analysis.json", "calibration", value) for value in ({}, "x", {"error": 0.1})),
        ("evaluation/analysis.json", "calibration.counts", [1]),
        *(("evaluation/analysis.json", "errors", value) for value in (5, {"AP": 0.5})),
        ("evaluation/analysis.json", "errors.costs.both", "x"),
        *(
            ("evaluation/analysis.json", "bootstrap", value)
            for value in (5, {"low": 0.1}, {"low": None, "high": 1})
        ),
        ("evaluation/analysis.json", "per_class", {"a": {"f1": "x"}}),
    ],
)
def test_an_odd_value_is_told_and_the_rest_is_reported(
    run: Path, file: str, place: str, value: object
) -> None:
    put(run / file, place, value)
    record = read_run(run)
    (told,) = record.damaged
    assert told.startswith(f"{run / file} cannot be read (")
    assert Missing(f"{told}.") in overview(record).blocks
    assert Missing(f"{told}.") in side_by_side([record, record]).blocks
    diagnose(examine(run, images=False))


def test_a_run_of_which_nothing_can_be_read_but_its_log_has_a_report(run: Path) -> None:
    for name in ("run.json", "evaluation/metrics.json", "evaluation/analysis.json"):
        (run / name).write_text("5")
    (run / "evaluation" / "precision_recall.npz").write_bytes(b"PK")
    document = make_report([run], images=False)
    assert len(said(document, "overview").splitlines()) == 4
    assert "AP goes from" in to_html(document)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("step", "x"),
        ("terms", []),
        ("loss", None),
        ("seconds", "x"),
        ("epoch", float("nan")),
        ("images", 10**400),
    ],
)
def test_an_odd_line_is_left_out_and_told(run: Path, entry: str, value: object) -> None:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | {entry: value})
    log.write_text("\n".join(lines) + "\n")
    record = read_run(run)
    assert f"{log}: lines left out: 1, from line 5 (" in record.damaged[0]
    assert Missing(f"{record.damaged[0]}.") in overview(record).blocks
    assert len(record.steps) == 29  # of three epochs of ten
    assert any("from line 5 (" in sentence for sentence in examine(run, images=False).missing)


def test_a_validation_without_figures_is_no_validation(run: Path) -> None:
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    broken = [line | {"metrics": 5} if line["event"] == "validation" else line for line in lines]
    log.write_text("".join(json.dumps(line) + "\n" for line in broken))
    record = read_run(run)
    assert record.validations == []
    assert "lines left out: 3, from line 11 (" in record.damaged[0]
    validation_section([record])


@pytest.mark.parametrize("name", ["run.json", "log.jsonl", "experiment.toml", "evaluation/metrics.json"])
def test_a_pipe_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    record = read_run(run)
    assert record.damaged[0].startswith(f"{run / name} cannot be read (it is not a regular file)")
    overview(record)
    if name in ("log.jsonl", "experiment.toml"):
        with pytest.raises(DetrkitError, match=r"holds no run"):
            examine(run)
    else:
        examine(run, images=False)


@pytest.mark.parametrize(
    "name",
    ["run.json", "evaluation/metrics.json", "evaluation/analysis.json", "evaluation/precision_recall.npz"],
)
@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"\xff\xfe", b"9" * 5000, b"PK\x03\x04"], ids=lambda one: str(one[:4])
)
def test_what_is_no_json_or_no_archive_is_told(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    (told,) = read_run(run).damaged
    assert str(run / name) in told
    assert len(told) < 600


@pytest.mark.parametrize("data", ["x" * 5000, "x/" * 3000, "a\0b", "\ud800"])
def test_a_folder_that_cannot_be_is_not_there(run: Path, data: str) -> None:
    put(run / "run.json", "data", data)
    assert "--data DIR" in gather(read_run(run)).why
    assert any("--data DIR" in sentence for sentence in examine(run).missing)


def test_a_recipe_that_is_a_pipe_is_not_waited_for(run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    put(run / "run.json", "recipe", str(tmp_path / "pipe.toml"))
    assert "it is not a regular file" in str(from_recipe(read_run(run)))


def test_names_that_are_no_unicode_are_written(run: Path, tmp_path: Path) -> None:
    """Halves of surrogate pairs: in json as an attack, in names of files where these are not UTF-8."""
    put(run / "run.json", "notes", ["half \ud800"])
    path = run / "evaluation" / "analysis.json"
    put(path, "confusion.classes", ["\ud800", "b", "c", "d"])
    renamed = run.rename(tmp_path / os.fsdecode(b"run \xff"))
    record = read_run(renamed)
    document = Document(record.name, str(renamed), [overview(record), mistakes_section(record)])
    write_page(to_html(document), tmp_path / "page.html")
    write_markdown(document, tmp_path / "page.md")
    for name in ("page.html", "page.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert "udcff" in text
        assert "ud800" in text
    other = Path(shutil.copytree(renamed, tmp_path / "other" / renamed.name))
    for named in told_apart([record, read_run(other)]):
        named.name.encode()


def test_many_classes_without_cells_take_no_memory(run: Path) -> None:
    """A matrix of all classes with each other would have 400 million cells."""
    path = run / "evaluation" / "analysis.json"
    put(path, "confusion.classes", [f"class {number}" for number in range(20_000)])
    put(path, "confusion.cells", [[0, 0, 3], [0, 20_000, 1], [19_999, 19_999, 4], [20_000, 2, 5]])
    record = read_run(run)
    tracemalloc.start()
    section = mistakes_section(record)
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()
    assert (
        "of 8 objects 7 were found as what they are, 0 as another class and 1 not at all; 5 detections"
        in str(section)
    )
