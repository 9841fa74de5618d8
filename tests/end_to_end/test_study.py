"""``detrkit study`` on a tiny dataset: what it leaves, that it goes on, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from detrkit.cli.main import app

pytestmark = pytest.mark.slow

RECIPES = ("plain", "anchor")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=[1, 2, 0, 1], val=[1, 2])


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory, small_detr: dict[str, object]) -> list[Path]:
    """Two that differ in their decoder."""
    folder = tmp_path_factory.mktemp("recipes")
    common = [f"{name} = {json.dumps(value)}" for name, value in small_detr.items()]
    for kind in RECIPES:
        lines = [*common, f'model.decoder.kind = "{kind}"', "data.batch_size = 2"]
        (folder / f"{kind}.toml").write_text("\n".join(lines))
    return [folder / f"{kind}.toml" for kind in RECIPES]


def run(data: Path, recipes: list[Path], out: Path, *more: str) -> Result:
    command = [
        "study",
        "--plan",
        "convergence",
        "--data",
        data,
        "--out",
        out,
        "--budget",
        "1s",
        *more,
        *recipes,
    ]
    return CliRunner().invoke(app, [str(word) for word in command], catch_exceptions=False)


@pytest.fixture(scope="module")
def finished(
    data: Path, recipes: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("study") / "out"
    ran = run(data, recipes, out, "--rate", "1e-4", "--rate", "1e20", "--longer", "plain=2s")
    assert ran.exit_code == 0, ran.output
    return out, ran


def test_it_leaves_a_table_a_figure_and_all_figures(finished: tuple[Path, Result]) -> None:
    out, ran = finished
    found = json.loads((out / "results.json").read_text())
    plan = json.loads((out / "plan.json").read_text())
    assert [(run["recipe"], run["longer"]) for run in found["runs"]] == [
        ("plain", False),
        ("anchor", False),
        ("plain", True),
    ]
    for run_found in found["runs"]:
        steps = plan["steps"][run_found["recipe"]]["longer" if run_found["longer"] else "full"]
        assert run_found["steps"] == run_found["curve"][-1]["step"] == steps
        assert run_found["images"] == 2 * steps
        assert run_found["rate"] == 1e-4
    page = (out / "convergence.md").read_text()
    for word in ("| plain | 0.0001 |", "| plain (longer) | 0.0001 |", "| anchor | 0.0001 |", "diverged"):
        assert word in page
    assert "![AP over seconds of training and over images seen](convergence.svg)" in page
    assert (out / "convergence.svg").read_text().startswith("<?xml")
    assert (out / "convergence.png").read_bytes().startswith(b"\x89PNG")
    assert "anchor" in ran.stdout
    assert str(out / "convergence.md") in ran.stdout


def test_a_rate_at_which_the_loss_is_not_finite_counts_as_the_worst(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    sweeps = json.loads((out / "results.json").read_text())["sweeps"]
    for sweep in sweeps.values():
        fine, diverged = sweep
        assert (fine["rate"], fine["diverged"]) == (1e-4, "")
        assert diverged["rate"] == 1e20
        assert "not finite" in diverged["diverged"]


def test_the_same_command_repeats_nothing_that_is_over(
    data: Path, recipes: list[Path], finished: tuple[Path, Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    shutil.rmtree(out / "runs/anchor/full")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/log.jsonl")}
    ran = run(data, recipes, out, "--rate", "1e-4", "--rate", "1e20", "--longer", "plain=2s")
    assert ran.exit_code == 0, ran.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "runs/anchor/full/log.jsonl").exists()


def test_another_study_in_the_same_folder_is_refused(
    data: Path, recipes: list[Path], finished: tuple[Path, Result]
) -> None:
    ran = run(data, recipes, finished[0], "--rate", "1e-4")
    assert ran.exit_code == 2
    assert "holds a study with" in ran.stderr
    assert "--out" in ran.stderr


def test_a_folder_with_something_else_in_it_is_refused(
    data: Path, recipes: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").touch()
    ran = run(data, recipes, tmp_path, "--rate", "1e-4")
    assert ran.exit_code == 2
    assert "is not empty and holds no study" in ran.stderr.replace("\n", " ")


def test_recipes_that_differ_in_more_are_refused(data: Path, recipes: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(recipes[0].read_text().replace("layers = 1", "layers = 2"))
    ran = run(data, [recipes[0], other], tmp_path / "out")
    assert ran.exit_code == 2
    assert "model.encoder.layers is 1 in plain, but 2 in other" in ran.stderr
    assert not (tmp_path / "out/plan.json").exists()
