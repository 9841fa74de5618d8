import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from detrkit.cli.data import app
from detrkit.data.shapes import ShapesSettings
from detrkit.errors import DetrkitError

main = typer.Typer()
main.add_typer(app, name="data")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["data", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_shapes_with_settings(tmp_path: Path) -> None:
    run(
        "shapes",
        str(tmp_path / "shapes"),
        "--set",
        "train_images=4",
        "--set",
        "val_images=2",
        "--set",
        "sides=[8, 20]",
    )
    content = json.loads((tmp_path / "shapes/annotations/instances_train.json").read_text())
    assert len(content["images"]) == 4
    assert all(8 <= side <= 20 for one in content["annotations"] for side in one["bbox"][2:])


def test_help_names_every_setting() -> None:
    words = re.findall(r"\w+", run("shapes", "--help"))
    assert set(ShapesSettings.model_fields) <= set(words)


def test_what_is_there_is_said(tmp_path: Path) -> None:
    command = ("shapes", str(tmp_path / "shapes"), "--set", "train_images=3", "--set", "val_images=1")
    assert run(*command).endswith("shapes: 3 images in train and 1 in val.\n")
    assert run(*command).endswith("1 in val, already there.\n")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("overlp=0.1", "no setting 'overlp': did you mean 'overlap'"),
        ("xyz=1", "there is no setting 'xyz'"),
        ("overlap=2", "overlap = 2: .* less than or equal to 1"),
        ("overlap=much", "overlap = 'much'"),
        ("sides=[60, 14]", "smaller value must come first"),
        ("overlap", "name=value"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(DetrkitError, match=words):
        run("shapes", str(tmp_path / "shapes"), "--set", setting)
    assert not (tmp_path / "shapes").exists()


def test_shards(tmp_path: Path, shapes: Path) -> None:
    command = ("shards", str(shapes), str(tmp_path / "packed"), "--images-per-shard", "4", "--splits", "val")
    assert run(*command).startswith("val: 10 images in 3 shards, ")
    assert ", there already\n" in run(*command)
    (tmp_path / "packed/val/val-000001.tar").unlink()
    assert ", 1 of them written\n" in run(*command)
    assert "val: 10 images in 1 shard, " in run("shards", str(shapes), str(tmp_path / "whole"))


def test_shards_of_a_size(tmp_path: Path, shapes: Path) -> None:
    run("shards", str(shapes), str(tmp_path / "packed"), "--size-mb", "0.1", "--splits", "val")
    sizes = [file.stat().st_size for file in (tmp_path / "packed/val").glob("*.tar")]
    assert len(sizes) > 1
    assert max(sizes) <= 100_000
