import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from detrkit.cli.main import app

Write = Callable[..., Path]
SMALL = ("--set", "data.short_sides=[64]", "--set", "data.max_size=64", "--set", "data.crop_sides=[32, 48]")


def run(*arguments: object) -> Result:
    command = [str(argument) for argument in ("data", "preview", *arguments)]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_draws_a_sheet_and_states_figures(write_coco: Write, tmp_path: Path) -> None:
    root, out = write_coco(tmp_path / "data", train=[3, 0, 4, 1], val=[2]), tmp_path / "new" / "sheet.png"
    ran = run(root, *SMALL, "--images", 2, "--views", 2, "--out", out)
    assert ran.exit_code == 0, ran.output
    with Image.open(out) as sheet:
        sheet.load()
        assert 3 * 300 < sheet.width < 4 * 340  # three tiles side by side
        assert sheet.height > 2 * 300
    first, images, crops, small, last = ran.stdout.splitlines()
    assert first == f"{root}, train: 4 of 4 images, in epochs 0 to 1."
    assert "in evaluation, a shorter side of 64 and a longer one of at most 64." in images
    assert re.match(r"Crops: \d+% of the views are cropped, to \d+% of the image in the median\.", crops)
    assert re.match(r"Small objects: \d+% have less area than the 32 x 32 pixels of a feature cell;", small)
    assert last.startswith(f"Wrote {out}: 2 images, ")


def test_a_recipe_decides_split_cell_and_seed(write_coco: Write, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", fine=[3, 2, 4, 1, 1, 1, 1])
    options = ("--recipe", "shapes", "--set", "data.train_split=fine", "--images", 3)
    outs = [tmp_path / f"{name}.jpg" for name in "abc"]
    ran = run(root, *options, "--out", outs[0])
    assert ran.exit_code == 0, ran.output
    assert "16 x 16 pixels of a feature cell" in ran.stdout
    run(root, *options, "--set", "train.seed=1", "--out", outs[1])
    run(root, *options, "--seed", 1, "--out", outs[2])
    first, second, third = (out.read_bytes() for out in outs)
    assert first != second == third


def test_images_are_chosen_by_name_or_id(write_coco: Write, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", train=[3, 0, 4, 1])
    pictures = []
    for name in ("0002.png", "0002", "2"):
        ran = run(root, *SMALL, "--name", name, "--out", tmp_path / "a.png")
        assert ran.exit_code == 0, ran.output
        assert "a.png: 1 images" in ran.stdout
        pictures.append((tmp_path / "a.png").read_bytes())
    assert len(set(pictures)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--name", "cat.jpg"),
            "--name cat.jpg: .* has no image of this name or id, but 2 others such as 0001",
        ),
        (("--recipe", "detr_r5"), "there is no recipe 'detr_r5'"),
        (("--set", "data.flp=1"), "there is no setting 'data.flp': did you mean"),
        (("--split", "test"), "has no split test, but train"),
        (("--out", "sheet.gif"), r"--out sheet\.gif is not the name of a picture: end it in \.png"),
        (("--out", "/dev/null/sheet.png"), "the folder /dev/null cannot be made"),
    ],
)
def test_what_is_wrong_is_said(
    write_coco: Write, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    root = write_coco(tmp_path / "data", train=[1, 0])
    ran = run(root, "--out", tmp_path / "sheet.png", *arguments)
    assert ran.exit_code == 2
    assert re.match("Error: .*" + sentence, ran.stderr)
    assert not (tmp_path / "sheet.png").exists()


def test_broken_datasets_are_said(write_coco: Write, tmp_path: Path) -> None:
    assert "is not a folder" in run(tmp_path / "nowhere").stderr
    root = write_coco(tmp_path / "data", train=[1])
    (root / "train" / "0001.png").write_bytes(b"no image")
    ran = run(root, "--out", tmp_path / "sheet.png")
    assert ran.exit_code == 2
    assert re.match(r"Error: the image .*0001\.png cannot be read: its format is not known", ran.stderr)
