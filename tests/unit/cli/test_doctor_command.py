import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import detrkit
from detrkit.cli.main import app


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> Path:
    """A run of two queries for images of four objects."""
    folder = tmp_path_factory.mktemp("doctor")
    data = write_coco(folder / "data", train=[4, 4, 4, 4], val=[4, 4])
    short = {"model.decoder.queries": 2, "data.batch_size": 2, "train.max_steps": 4, "train.trackers": []}
    for _ in detrkit.fit(detrkit.recipe("detr_r50", small_detr | short), data, folder / "run"):
        pass
    return folder / "run"


def test_what_is_found_is_said_with_evidence_and_a_command_and_exit_code_1(run: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(run)])
    assert result.exit_code == 1
    assert "too-few-queries" in result.stdout
    assert "50%" in result.stdout
    assert "--set model.decoder.queries=10" in " ".join(result.stdout.split())


def test_json_has_the_same(run: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(run), "--json"])
    told = json.loads(result.stdout)
    assert told["ailments"][0]["name"] == "too-few-queries"
    assert told["ailments"][0].keys() == {"name", "kind", "confidence", "what", "evidence", "remedy"}
    assert told["missing"] == []


def test_without_data_the_log_is_judged_and_what_is_missing_said(run: Path, tmp_path: Path) -> None:
    header = json.loads((run / "run.json").read_text()) | {"data": str(tmp_path / "gone")}
    for name in ("log.jsonl", "experiment.toml"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "run.json").write_text(json.dumps(header))
    result = CliRunner().invoke(app, ["doctor", str(tmp_path), "--json"])
    assert "add --data DIR" in json.loads(result.stdout)["missing"][0]
    assert "too-few-queries" not in result.stdout


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no run" in " ".join(result.stderr.split())
