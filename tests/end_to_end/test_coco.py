"""Train, evaluate and predict with the command line on real COCO images, in small."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from detrkit.cli.main import app


@pytest.fixture
def run() -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.mark.slow
def test_train_evaluate_and_predict_on_coco(
    tmp_path: Path, shared: Path, small_detr: dict[str, object], run: Callable[..., Result]
) -> None:
    data, out = shared / "coco-mini", tmp_path / "run"
    settings = small_detr | {"train.max_steps": 4, "train.precision": "bf16", "data.batch_size": 4}
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    trained = run("train", "detr_r50", "--data", data, "--out", out, *assignments)
    assert trained.exit_code == 0, trained.output
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["step"] * 4 + ["validation", "finished"]

    evaluated = run("evaluate", out, "--data", data, "--out", tmp_path / "evaluation", "--precision", "bf16")
    assert evaluated.exit_code == 0, evaluated.output
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    validation = next(line for line in lines if line["event"] == "validation")["metrics"]
    assert metrics["AP"] == pytest.approx(validation["AP"], abs=1e-3)
    assert len(metrics["per_class"]) == 80

    predicted = run("predict", out, data / "val2017", "--out", tmp_path / "found", "--threshold", "0")
    assert predicted.exit_code == 0, predicted.output
    entries = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert len(entries) == 120
    assert all(len(entry["detections"]) == 5 for entry in entries)
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 120


def test_a_second_run_does_not_overwrite_the_first(
    tmp_path: Path,
    small_detr: dict[str, object],
    write_coco: Callable[..., Path],
    run: Callable[..., Result],
) -> None:
    data = write_coco(tmp_path / "data", train=[1, 2], val=[1])
    assignments = [word for name, value in small_detr.items() for word in ("--set", f"{name}={value}")]
    command = ["train", "detr_r50", "--data", data, "--out", tmp_path / "run", "--set", "train.max_steps=1"]
    assert run(*command, *assignments).exit_code == 0
    again = run(*command, *assignments)
    assert again.exit_code == 2
    assert "already holds a run" in again.output
    other = run(*command, *assignments, "--resume", "--set", "optim.lr=1")
    assert other.exit_code == 2
    assert "optim.lr = 0.0001, not 1.0" in other.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["detr_r5", "--data", "."], "did you mean 'detr_r50'"),
        (["detr_r50", "--data", "nowhere"], "nowhere"),
        (["detr_r50"], "--data is missing"),
        (["detr_r50", "--data", ".", "--set", "optim.lrr=1"], "did you mean 'optim.lr'"),
        (["detr_r50", "--data", ".", "--set", "train.precision=fp12"], "train.precision = 'fp12'"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    arguments: list[str], sentence: str, run: Callable[..., Result]
) -> None:
    result = run("train", *arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_fp16_on_a_cpu_is_refused(
    tmp_path: Path, write_coco: Callable[..., Path], run: Callable[..., Result]
) -> None:
    data = write_coco(tmp_path / "data", train=[1], val=[1])
    result = run("train", "detr_r50", "--data", data, "--set", "train.precision=fp16")
    assert result.exit_code == 2
    assert "fp16" in result.output
