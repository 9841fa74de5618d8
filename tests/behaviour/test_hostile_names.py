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
