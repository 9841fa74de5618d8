"""Runs side by side, in the page, in Markdown and in the terminal."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detrkit.cli.main import app
from detrkit.report.content import Missing, Table
from detrkit.report.page import to_html
from detrkit.report.write import make_report


@pytest.fixture
def two(write_run: Callable[..., Path], tmp_path: Path) -> list[Path]:
    first = write_run(tmp_path, lr=1e-3)
    first = first.rename(tmp_path / "first")
    second = write_run(tmp_path, lr=5e-4, found=False)
    return [first, second.rename(tmp_path / "second")]


def table(document, section: str) -> Table:
    blocks = next(one.blocks for one in document.sections if one.name == section)
    return next(block for block in blocks if isinstance(block, Table))


def test_curves_are_overlaid_and_settings_and_figures_stand_side_by_side(two: list[Path]) -> None:
    document = make_report(two)
    assert table(document, "settings").rows == [["optim.lr", "0.001", "0.0005"]]
    figures = {row[0]: row[1:3] for row in table(document, "validation").rows}
    first, second = figures["AP"]
    assert first > 0.1
    assert second == 0
    html = to_html(document)
    assert re.search(r'aria-label="Loss over epochs: first goes from 20 to [^"]*second goes from 20', html)


def test_the_difference_from_a_run_that_found_nothing_is_all_of_the_ap(two: list[Path]) -> None:
    document = make_report(two)
    ap = next(row[1] for row in table(document, "validation").rows if row[0] == "AP")
    (name, value, low, high, above, words) = table(document, "difference").rows[0]
    assert name == "second less first"
    assert value == pytest.approx(-ap)
    assert low <= value <= high < 0
    assert above == 0
    assert words == "first is better on such images"


def test_a_run_does_not_differ_from_itself(two: list[Path]) -> None:
    (name, value, low, high, _, words) = table(make_report([two[0], two[0]]), "difference").rows[0]
    assert name == "first (2) less first (1)"
    assert (value, low, high) == (0, 0, 0)
    assert words == "no difference that these images can show"


def test_runs_on_other_data_are_not_compared_image_by_image(
    two: list[Path], write_run: Callable[..., Path], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", seed=1)
    document = make_report([two[0], other])
    (block,) = next(section.blocks for section in document.sections if section.name == "difference")
    assert isinstance(block, Missing)
    assert "run cannot be compared with first image by image" in block.text


def test_compare_prints_the_same_in_the_terminal(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    done = CliRunner().invoke(app, ["compare", *map(str, two)])
    assert done.exit_code == 0, done.output
    assert "first is better on such images" in done.output
    assert re.search(r"optim\.lr +0\.001 +0\.0005", done.output)
    assert re.search(r"AP50 +0\.\d{3} +0\.000", done.output)


def test_one_run_is_not_compared(two: list[Path]) -> None:
    done = CliRunner().invoke(app, ["compare", str(two[0])])
    assert done.exit_code == 2
    assert "name two or more" in done.stderr


def test_markdown_has_the_same_with_charts_beside_it(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    done = CliRunner().invoke(
        app, ["report", str(two[0]), "--format", "md", "--without-images", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    text = out.read_text()
    document = make_report(two[:1], images=False)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        section.title for section in document.sections
    ]
    linked = re.findall(r"\(<page_files/(.+?)>\)", text)
    assert len(linked) > 20
    assert {path.name for path in (tmp_path / "page_files").iterdir()} == set(linked)
    assert "\\<script\\>alert(1)\\</script\\>" in text
    assert all("--ink: #" in (tmp_path / "page_files" / name).read_text() for name in linked)


def test_a_folder_is_no_file_to_write_to(two: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(two[0]), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "is a folder" in done.stderr
