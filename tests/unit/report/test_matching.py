"""The curve of how often the matching changes, counted by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detrkit.report.content import Drawing, Drawings
from detrkit.report.record import read_run
from detrkit.report.validation import validation_section

MATCHED = [
    [[0, 1], [2]],
    [[0, 1], [3]],  # in the second image, one query takes over from another: 2 queries of 2 images
    [[2, 3], [4]],  # all are others: 6
]


@pytest.fixture
def run(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    return write_run(tmp_path, epochs=3)


def tell_matches(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for matched, line in zip(MATCHED, [line for line in lines if line["event"] == "validation"], strict=True):
        line["matched"] = matched
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawings(*runs: Path) -> list[Drawing]:
    blocks = validation_section([read_run(run) for run in runs]).blocks
    drawn = next(block for block in blocks if isinstance(block, Drawings))
    return [drawing for drawing in drawn.drawings if drawing.name == "validation-matching"]


def test_the_changed_queries_of_an_image_are_drawn_with_the_most_there_can_be(run: Path) -> None:
    tell_matches(run)
    (drawing,) = drawings(run)
    assert "goes from 1 to 3, lowest 1, highest 3" in drawing.alternative
    assert "It would be 3 if all of them changed" in drawing.caption


def test_runs_that_tell_no_matches_have_no_curve(run: Path) -> None:
    assert drawings(run) == []


def test_of_several_runs_those_are_drawn_that_tell_their_matches(
    run: Path, write_run: Callable[..., Path], tmp_path: Path
) -> None:
    tell_matches(run)
    silent = write_run(tmp_path / "silent")
    (drawing,) = drawings(run, silent.rename(tmp_path / "other"))
    assert "run goes from 1 to 3" in drawing.alternative
    assert "other" not in drawing.alternative
