"""``detrkit tune`` on a tiny dataset: what it leaves, that it goes on, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from optuna.exceptions import StorageInternalError
from typer.testing import CliRunner

from detrkit.cli.main import app
from detrkit.settings.experiment import recipe as read_recipe
from detrkit.tuning.plan import Pace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("data") / "coco", train=[1, 2, 0, 1], val=[1, 2])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, small_detr: dict[str, object]) -> Path:
    settings = small_detr | {"data.batch_size": 2, "train.max_steps": 3, "optim.lr": 1e-3}
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items()))
    return path


def command(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def tuned(recipe: Path, data: Path, out: Path, *more: object) -> Result:
    """Trials of a rate that is fine, and of one at which the loss is not finite."""
    rates = "optim.lr=1e-3,1e20"
    return command("tune", recipe, "--data", data, "--out", out, "--search", rates, *more)


@pytest.fixture(scope="module")
def finished(recipe: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("tune") / "out"
    ran = tuned(recipe, data, out, "--trials", 4)
    assert ran.exit_code == 0, ran.output
    return out, ran


def test_it_leaves_every_trial_the_best_settings_and_a_page(finished: tuple[Path, Result]) -> None:
    out, ran = finished
    found = json.loads((out / "trials.json").read_text())
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3]
    assert found["trials"][0]["settings"]["optim.lr"] == 1e-3
    assert found["plan"] == {"steps": 3, "total": None, "train_images": 4}
    best = found["trials"][found["best"]]
    assert best["fate"] == "ended"
    assert [point["step"] for point in best["curve"]] == [1, 2, 3]
    assert "Trial 0" in ran.stderr
    assert "detrkit train" in ran.stdout
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_loss_that_is_not_finite_fails_its_trial_with_its_reason(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    failed = [
        trial
        for trial in json.loads((out / "trials.json").read_text())["trials"]
        if trial["settings"]["optim.lr"] == 1e20
    ]
    assert failed
    assert {trial["fate"] for trial in failed} <= {"failed", "pruned"}
    assert all("not finite" in trial["reason"] for trial in failed if trial["fate"] == "failed")
    assert any(trial["fate"] == "failed" for trial in failed)


def test_only_trials_that_came_to_their_end_keep_weights(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    for trial in json.loads((out / "trials.json").read_text())["trials"]:
        folder = out / "trials" / f"{trial['number']:04d}"
        assert (folder / "log.jsonl").exists()
        assert not (folder / "last").exists()
        assert (folder / "model.safetensors").exists() == (trial["fate"] == "ended")


def test_the_best_settings_are_a_recipe_that_trains_as_long_as_the_first(
    finished: tuple[Path, Result], recipe: Path, data: Path, tmp_path: Path
) -> None:
    out, _ = finished
    found = json.loads((out / "trials.json").read_text())
    settings = found["trials"][found["best"]]["settings"]
    assert read_recipe(out / "best.toml") == read_recipe(recipe, settings | {"train.seed": 0})
    trained = command(
        "train", out / "best.toml", "--data", data, "--out", tmp_path / "run", "--set", "train.max_steps=2"
    )
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_the_same_command_repeats_nothing_and_goes_on_with_more_trials(
    finished: tuple[Path, Result], recipe: Path, data: Path
) -> None:
    out, _ = finished
    kept = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/log.jsonl")}
    again = tuned(recipe, data, out, "--trials", 5)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(json.loads((out / "trials.json").read_text())["trials"]) == 5


def test_another_study_in_the_same_folder_is_refused(
    finished: tuple[Path, Result], recipe: Path, data: Path
) -> None:
    refused = tuned(recipe, data, finished[0], "--set", "data.batch_size=1")
    assert refused.exit_code == 2
    assert "data.batch_size = 2, not 1" in refused.stderr.replace("\n", " ")


def test_a_storage_that_goes_away_is_one_sentence(
    finished: tuple[Path, Result], recipe: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise StorageInternalError("An exception is raised during the commit.") from OSError(
            "no route to host"
        )

    monkeypatch.setattr("detrkit.tuning.tune.run_study", gone)
    refused = tuned(recipe, data, finished[0], "--trials", 7)
    assert refused.exit_code == 2
    assert "the study's storage failed (no route to host)" in refused.stderr


def test_a_budget_becomes_the_steps_of_trials(
    recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of 22 s, 0.5 for the start and 8 x 0.5 for validations: 17 steps, and the next lower eights are 16
    monkeypatch.setattr("detrkit.tuning.tune.measure", lambda *_: Pace(start=0.5, step=1.0, validation=0.5))
    ran = command("tune", recipe, "--data", data, "--out", tmp_path / "out", "--trials", 1, "--budget", "22s")
    assert ran.exit_code == 0, ran.output
    found = json.loads((tmp_path / "out/trials.json").read_text())
    assert (found["plan"]["steps"], found["plan"]["total"]) == (16, 16)
    assert [point["step"] for point in found["trials"][0]["curve"]] == list(range(2, 17, 2))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--search", "optim.rate=1e-5:1e-3"], "there is no setting 'optim.rate'"),
        (["--set", "train.seed=3"], "--seed"),
        (["--budget", "soon"], "'soon' is not a duration"),
        (["--storage", "somewhere"], "is not a database's URL"),
        (["--storage", "sqlite:////nowhere/at/all.db"], "cannot be used"),
    ],
)
def test_faults_are_one_sentence(
    recipe: Path, data: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    refused = command("tune", recipe, "--data", data, "--out", tmp_path / "out", *words)
    assert refused.exit_code == 2
    assert sentence in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_password_is_never_shown(recipe: Path, data: Path, tmp_path: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:9/nowhere"
    refused = command("tune", recipe, "--data", data, "--out", tmp_path / "out", "--storage", url)
    assert refused.exit_code == 2
    assert "cannot be used" in refused.stderr or "needs its driver" in refused.stderr
    assert "secret" not in refused.stderr
