from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from detrkit.cli.main import app
from detrkit.data.fetch.releases import RELEASES


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "fetch", "coco", *arguments], catch_exceptions=False)


@pytest.fixture
def command(server: Any, coco: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(RELEASES, "2017", coco.release)
    return ["--root", str(tmp_path / "coco"), "--mirror", server.url + "/"]


def test_what_was_done_is_said_and_then_that_nothing_was(command: list[str]) -> None:
    root = command[1]
    first, second = run(*command), run(*command)
    assert first.exit_code == second.exit_code == 0, first.output
    assert f"{root}: 3 images of train2017 fetched.\n" in first.stdout
    assert f"{root}: instances_train2017.json, instances_val2017.json fetched.\n" in first.stdout
    assert "val2017 extracting: 100 % of 0.0 MB\n" in first.stderr
    assert f"{root}: 2 images of val2017 there already and complete.\nNothing to fetch.\n" in second.stdout


def test_one_split_and_its_archives(command: list[str]) -> None:
    result = run(*command, "--splits", "val2017", "--keep-archives")
    assert "train2017" not in result.stdout.replace("annotations_trainval2017", "")
    kept = result.stdout.splitlines()[-1].removeprefix("Archives: ").removesuffix(".").split(", ")
    assert [Path(name).name for name in kept] == ["annotations_trainval2017.zip", "val2017.zip"]
    assert all(Path(name).is_file() for name in kept)


def test_a_fault_is_one_sentence(command: list[str]) -> None:
    result = run(*command, "--splits", "val2014")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: there is no split 'val2014'")


def test_bars_show_rate_and_time_left(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    result = run(*command)
    assert "val2017 fetching" in result.stderr
    assert "/s" in result.stderr
