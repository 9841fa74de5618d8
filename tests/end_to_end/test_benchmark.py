"""``detrkit benchmark`` on a tiny dataset: what it finds, prints and leaves."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from detrkit.benchmark.results import read_results
from detrkit.catalog import Category
from detrkit.cli.main import app
from detrkit.detectors.build import build_detector
from detrkit.settings.experiment import recipe as read_recipe
from detrkit.weights import store

pytestmark = pytest.mark.slow

SECTIONS = ["overview", "pareto", "accuracy", "difference", "classes", "costs", "speed", "conditions"]


def command(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", val=[1, 2, 3])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, small_detr: dict[str, object]) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in small_detr.items()))
    return path


@pytest.fixture(scope="module")
def perfect(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is there, as somebody's results."""
    truth = json.loads((data / "annotations" / "instances_val.json").read_text())
    keys = ("image_id", "category_id", "bbox")
    results = [{key: one[key] for key in keys} | {"score": 0.9} for one in truth["annotations"]]
    path = tmp_path_factory.mktemp("results") / "perfect.json"
    path.write_text(json.dumps(results))
    return path


@pytest.fixture(scope="module")
def weights(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's file, with random weights."""
    torch.manual_seed(1)
    experiment, folder = read_recipe(recipe), tmp_path_factory.mktemp("runs") / "run"
    categories = tuple(Category(number, f"class {number}") for number in (1, 2, 3))
    folder.mkdir()
    state = build_detector(experiment, categories).state_dict()
    store.write(folder / "model.safetensors", state, experiment, categories)
    return folder


@pytest.fixture(scope="module")
def benchmarked(
    data: Path, recipe: Path, weights: Path, perfect: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    words = ["benchmark", weights, recipe, perfect, "--data", data, "--out", out]
    words += ["--turns", 2, "--images", 1, "--batches", "1,2", "--size", "64x64", "--workers", 0]
    words += ["--precision", "fp32"]
    done = command(*words)
    assert done.exit_code == 0, done.output
    return out, words, done


def test_everybody_has_what_can_be_known_of_them(benchmarked: Any) -> None:
    out, _, done = benchmarked
    results = read_results(out)
    run, random, results_alone = results.rows
    assert (run.name, random.name, results_alone.name) == ("run", "tiny", "perfect")
    assert results.reference == "run"
    assert results_alone.accuracy is not None
    assert results_alone.accuracy.figures["AP"] == pytest.approx(1)
    assert random.accuracy is None
    assert "random weights" in done.stdout
    for row in (run, random):
        assert row.cost is not None
        assert row.memory is not None
        assert row.memory.training is not None
        weights = row.cost.bytes
        assert weights >= 4 * (row.cost.parameters or 0)
        # a step holds the gradients and two moments of what is trained besides the weights
        assert row.memory.inference["fp32"] > weights
        assert row.memory.training > weights + 3 * 4 * (row.cost.trainable or 0)
        assert set(row.speed) == set(row.training) == {"fp32"}
        assert all(speed.p95 >= speed.p50 > 0 for speed in row.speed.values())
        assert row.cost.multiply_adds["64x64"] > 1e7
    assert results.machine["torch"]


def test_the_terminal_shows_the_tables_within_80_columns(benchmarked: Any) -> None:
    _, _, done = benchmarked
    tables = done.stdout.partition("tiny: random weights")[0]
    assert "Speed in fp32" in tables
    assert max(map(len, tables.splitlines())) <= 80
    assert "AP100" not in tables
    assert "…" not in tables
    assert "1.000" in tables


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_its_page_opens_without_complaint_and_nothing_sticks_out(
    benchmarked: Any, browser: Any, width: int, scheme: str
) -> None:
    page = benchmarked[0] / "report.html"
    assert re.findall(r'<section id="([\w-]+)"', page.read_text("utf-8")) == SECTIONS
    browser.open(page, width, scheme)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing"], "there is no nothing"),
        (["shapes", "--size", "800"], "--size 800"),
        (["shapes", "--batches", "1,0"], "--batches 1,0"),
        (["shapes", "--precision", "fp8"], "--precision fp8"),
        (["shapes", "--split", "test"], "has no split test"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    data: Path, tmp_path: Path, words: list[str], reason: str
) -> None:
    done = command("benchmark", *words, "--data", data, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert reason in done.stderr


def test_the_same_command_detects_nothing_twice(benchmarked: Any) -> None:
    out, words, _ = benchmarked
    again = command(*words, "--turns", 0, "--without-memory")
    assert again.exit_code == 0, again.output
    assert "from detections that were there" in again.stderr
    assert read_results(out).rows[0].speed == {}
