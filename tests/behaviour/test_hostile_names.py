"""Names of classes and files that command a terminal reach none, by whichever command they are printed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from detrkit.catalog import Category
from detrkit.cli.main import app
from detrkit.detectors.build import build_detector
from detrkit.settings.experiment import recipe
from detrkit.weights import store

EVIL = "\x1b]0;evil\x07\x1b[31m\x7f\x9b2J\u202e"
SHOWN = r"\x1b]0;evil\x07\x1b[31m\x7f\x9b2J\u202e"


@pytest.fixture
def coco(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    """A dataset whose classes, files and splits have such names, with two faults to be told of."""
    split = f"val{EVIL}"
    root = write_coco(tmp_path / "data", **{split: [2, 1, 3]})
    path = root / f"annotations/instances_{split}.json"
    tree = json.loads(path.read_text())
    for category in tree["categories"]:
        category["name"] += EVIL
    for image in tree["images"]:
        name = EVIL + image["file_name"]
        (root / split / image["file_name"]).rename(root / split / name)
        image["file_name"] = name
    (root / split / f"unlisted{EVIL}.png").write_bytes(b"no image")
    (root / split / tree["images"][0]["file_name"]).write_bytes(b"no image")
    tree["annotations"][-1]["bbox"][2] = -1
    path.write_text(json.dumps(tree))
    return root


@pytest.fixture
def weights(tmp_path: Path, small_detr: dict[str, object]) -> Path:
    experiment = recipe("detr_r50", small_detr)
    categories = tuple(Category(number, f"class {number}{EVIL}") for number in (1, 2, 3))
    path = tmp_path / f"{EVIL}.safetensors"
    store.write(path, build_detector(experiment, categories).state_dict(), experiment, categories)
    return path


def printed(*arguments: object, code: int = 0) -> str:
    """All that a command prints, in which there is nothing but text."""
    ran = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert ran.exit_code == code, ran.output
    signs = set(ran.stdout + ran.stderr)
    assert not [sign for sign in signs if ord(sign) < 32 and sign != "\n"]
    assert not signs & set("\x7f\x9b\u202e")
    return ran.stdout + ran.stderr


def split_of(root: Path) -> str:
    return next((root / "annotations").iterdir()).stem.removeprefix("instances_")


@pytest.mark.parametrize("options", [(), ("--json",), ("--no-images",)])
def test_check(coco: Path, options: tuple[str, ...]) -> None:
    text = printed("data", "check", coco, *options, code=1)
    if options == ("--json",):
        assert EVIL in json.loads(text[text.index("{") :])["findings"][0]["split"]
    else:
        assert SHOWN in text


def test_check_writes_a_copy(coco: Path, tmp_path: Path) -> None:
    assert SHOWN in printed("data", "check", coco, "--fix", tmp_path / f"new{EVIL}", code=1)


def test_an_error_tells_of_the_file(coco: Path) -> None:
    text = printed("evaluate", "gone", "--data", coco, "--split", "gone", code=2)
    assert SHOWN in text


def mended(coco: Path) -> Path:
    """The dataset without its two faults."""
    split = split_of(coco)
    path = coco / f"annotations/instances_{split}.json"
    tree = json.loads(path.read_text())
    tree["annotations"][-1]["bbox"][2] = 8
    path.write_text(json.dumps(tree))
    Image.new("RGB", (64, 64)).save(coco / split / tree["images"][0]["file_name"])
    return coco


@pytest.mark.parametrize(
    "command",
    ["stats", "convert --to coco", "subset --images 2", "split --parts a=1,b", "preview", "merge"],
)
def test_what_reads_and_writes_datasets(coco: Path, tmp_path: Path, command: str) -> None:
    name, *options = command.split()
    more: list[object] = [] if name in ("stats", "preview") else [tmp_path / f"new{EVIL}"]
    if name == "merge":
        more = [coco, *more]
    if name == "preview":
        more = ["--out", tmp_path / f"new{EVIL}.png", "--split", split_of(coco)]
    assert SHOWN in printed("data", name, mended(coco), *more, *options)


def test_evaluate(coco: Path, weights: Path) -> None:
    text = printed("evaluate", weights, "--data", mended(coco), "--split", split_of(coco))
    assert f"class 1{SHOWN}" in text.replace("\n", "")


def test_predict(coco: Path, weights: Path, tmp_path: Path) -> None:
    pictures = sorted((mended(coco) / split_of(coco)).glob("*000?.png"))
    text = printed("predict", weights, *pictures, "--out", tmp_path / f"out{EVIL}", "--threshold", 0)
    assert f"{SHOWN}0001.png: " in text
    assert re.search(rf"[1-5] class [123]{re.escape(SHOWN)}", text)


def test_inspect(weights: Path) -> None:
    assert f"class 1{SHOWN}" in printed("weights", "inspect", weights)


@pytest.mark.slow
def test_train(coco: Path, tmp_path: Path, small_detr: dict[str, object]) -> None:
    split = split_of(mended(coco))
    settings = {**small_detr, "data.train_split": split, "data.val_split": split, "train.max_steps": 2}
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    text = printed("train", "detr_r50", "--data", coco, "--out", tmp_path / f"run{EVIL}", *sets)
    assert f"run{SHOWN}" in text


def test_the_log(coco: Path) -> None:
    program = (
        "import logging, sys; from detrkit.cli.main import _show_warnings; _show_warnings();"
        "logging.getLogger('detrkit.data').warning(sys.argv[1])"
    )
    command = [sys.executable, "-c", program, EVIL.encode() + b"\xff"]
    told = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert told.stdout == b""
    assert (SHOWN + r"\udcff").encode() in told.stderr
    assert b"\x1b" not in told.stderr


BYTES = os.fsdecode(b"\xff\xe9")
"""A name that is no UTF-8, as Python spells it."""


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Four images, of which one has a name of other bytes than UTF-8's."""
    root = tmp_path / "yolo"
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    for number, name in enumerate((f"0{BYTES}", "1", "2", "3")):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(root / f"images/train/{name}.png")
        (root / f"labels/train/{name}.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    return root


def test_names_of_other_bytes_are_read(yolo: Path, tmp_path: Path) -> None:
    assert "4 images, 4 annotations" in printed("data", "check", yolo)
    printed("data", "check", yolo, "--json")
    printed("data", "stats", yolo, "--out", tmp_path / "a.png")
    printed("data", "preview", yolo, "--out", tmp_path / f"b{BYTES}.png")
    assert (tmp_path / f"b{BYTES}.png").is_file()


@pytest.mark.parametrize(
    "command",
    ["check --fix", "convert --to coco", "subset --images 4", "shards", "cache --size 32 --workers 0"],
)
def test_names_of_other_bytes_are_not_written_into_files(yolo: Path, tmp_path: Path, command: str) -> None:
    name, *options = command.split()
    more = [*options, tmp_path / "new"] if name == "check" else [tmp_path / "new", *options]
    text = printed("data", name, yolo, *more, code=2)
    assert f"{yolo / 'data.yaml'}: the name '0\\udcff\\udce9.png'" in text
    assert "is no valid Unicode" in text
    assert not (tmp_path / "new/annotations").exists()


def test_names_of_folders_and_splits_of_other_bytes(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    root = write_coco(tmp_path / f"data{BYTES}", **{f"train{BYTES}": [1, 2]})
    path = root / f"annotations/instances_train{BYTES}.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 0, "area": -1'))
    printed("data", "stats", root, "--out", tmp_path / "a.png")
    printed("data", "check", root, "--fix", tmp_path / f"new{BYTES}", code=1)
    changes = (tmp_path / f"new{BYTES}/changes.json").read_text("utf-8")
    assert {change["split"] for change in json.loads(changes)} == {f"train{BYTES}"}
    assert r"train\udcff\udce9: annotation 1" in (tmp_path / f"new{BYTES}/changes.txt").read_text("utf-8")
    text = printed("data", "cache", root, tmp_path / "small", "--size", 32, "--workers", 0, code=2)
    assert "is no valid Unicode" in text
