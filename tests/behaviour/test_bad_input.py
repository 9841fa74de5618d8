"""What a user can get wrong is the right result, or one sentence with file, entry, value and fix."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from detrkit.cli.main import app
from detrkit.data.resize import write_resized_copy

Tree = dict[str, list[dict[str, Any]]]
Run = Callable[..., Result]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def require_sentence(result: Result, *parts: str) -> None:
    """One line on stderr with all parts, and no other trace of the fault."""
    assert result.exit_code == 2, result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert line.endswith((".", "?"))
    assert "Error: " not in "\n".join(result.stderr.splitlines()[:-1])
    for part in parts:
        assert part in line


@pytest.fixture
def data(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path / "data", train=[2, 0, 3, 1], val=[1, 2])


@pytest.fixture
def train(tmp_path: Path, data: Path, small_detr: dict[str, object]) -> Run:
    """``train("--set", "data.workers=1", steps=4)`` trains on ``data`` into the folder ``run``."""

    def train(*more: object, steps: int = 1, out: Path = tmp_path / "run") -> Result:
        settings = small_detr | {"train.max_steps": steps}
        assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        return run("train", "detr_r50", "--data", data, "--out", out, *assignments, *more)

    return train


def annotations(data: Path, split: str) -> Path:
    return data / "annotations" / f"instances_{split}.json"


def change(data: Path, split: str, edit: Callable[[Tree], object]) -> None:
    path = annotations(data, split)
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))


def notes(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line for line in result.stderr.splitlines() if line.startswith("Note: ")]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda tree: tree.pop("annotations"), ["not in COCO's format", "`annotations`"]),
        (lambda tree: tree["annotations"][1].update(category_id=9), ["annotation 2", "category_id 9"]),
        (lambda tree: tree["annotations"][1].update(image_id=77), ["annotation 2", "image_id 77"]),
        (lambda tree: tree["annotations"][1].update(id=1), ["two annotations have the id 1"]),
        (lambda tree: tree["images"][1].update(id=1), ["two images have the id 1"]),
        (lambda tree: tree["categories"][1].update(id=1), ["two categories have the id 1"]),
        (lambda tree: tree["images"][1].update(id="b"), ["$.images[1].id", "`str`"]),
        (lambda tree: tree["images"][1].update(width=0), ["image 2", "width 0"]),
        (lambda tree: tree["images"][1].update(file_name="../x.png"), ["image 2", "'../x.png'"]),
        (lambda tree: tree["images"][1].update(file_name="gone.png"), ["gone.png", "fetch them"]),
        (lambda tree: tree["annotations"][1].update(bbox=[1, 2, 3]), ["annotation 2", "[1.0, 2.0, 3.0]"]),
        (lambda tree: tree["annotations"][1].update(bbox=[float("nan"), 2, 3, 4]), ["[NaN, 2, 3, 4]"]),
        (lambda tree: tree["annotations"][1].update(bbox=[1e308, 2, 1e308, 4]), ["annotation 2", "finite"]),
        (lambda tree: tree.update(images=[], annotations=[]), ["lists no images"]),
        (lambda tree: tree.update(categories=[], annotations=[]), ["lists no categories"]),
    ],
)
def test_annotations_that_are_wrong(
    train: Run, data: Path, split: str, edit: Callable[[Tree], object], parts: list[str]
) -> None:
    change(data, split, edit)
    require_sentence(train(), str(annotations(data, split)), *parts)


@pytest.mark.parametrize("content", ["", "hello", "[1, 2]", '{"images": ['])
def test_a_json_of_something_else(train: Run, data: Path, content: str) -> None:
    annotations(data, "val").write_text(content)
    require_sentence(train(), str(annotations(data, "val")), "not")


def test_folders_that_are_missing(train: Run, data: Path, checkpoint: Path) -> None:
    shutil.rmtree(data / "val")
    require_sentence(train(), str(data / "val"), "holds annotations, train")
    require_sentence(run("evaluate", checkpoint, "--data", data), str(data / "val"))
    shutil.rmtree(data)
    require_sentence(train(), str(data), "not a folder")
    require_sentence(run("evaluate", checkpoint, "--data", data), str(data), "not a folder")
    require_sentence(run("predict", checkpoint, data / "val"), str(data / "val"), "means no image")


def test_a_split_without_objects_to_train_on(train: Run, data: Path) -> None:
    change(data, "train", lambda tree: [entry.update(iscrowd=1) for entry in tree["annotations"]])
    require_sentence(train(), str(annotations(data, "train")), "no object to train on", "data.train_split")


def test_what_training_leaves_out_is_counted_and_said(train: Run, data: Path) -> None:
    boxes = [[500, 5, 9, 9], [60, 5, 9, 9], [1, 5, 0, 9], [1, 5, 9, -9], [1, 1, 9, 9], [1, 1, 9, 9]]

    def edit(tree: Tree) -> None:
        for entry, box in zip(tree["annotations"], boxes, strict=True):
            entry["bbox"] = box
        crowded = tree["annotations"][-1]
        tree["annotations"] += [crowded | {"id": number, "image_id": 2} for number in range(100, 108)]
        crowded["iscrowd"] = 1

    change(data, "train", edit)
    told = notes(train())
    train_says = [note.removeprefix("Note: train: ") for note in told if note.startswith("Note: train: ")]
    expected = {
        "bboxes lie wholly outside their image (1, such as annotation 1 ": "they are left out of training",
        "bboxes have a negative width or height (1, such as annotation 4 ": "they have no area",
        "bboxes have a width or height of 0 (1, such as annotation 3 ": "they are left out of training",
        "bboxes reach outside their image (1, such as annotation 2 ": "training clips them",
        "images have more objects than the detector has queries (1, ": "are left out by chance",
        "annotations are regions of crowds (COCO's iscrowd, VOC's difficult) (1, ": "left out of training",
    }
    for start, effect in expected.items():
        assert any(note.startswith(start) and effect in note for note in train_says), (start, told)
    assert told[-1] == "Note: How each is mended, `detrkit data check` says."


def test_images_that_are_enlarged_from_a_copy_are_counted_and_said(
    tmp_path: Path, train: Run, data: Path, checkpoint: Path
) -> None:
    write_resized_copy(data, tmp_path / "copy", 48)
    train_file, val_file = (annotations(tmp_path / "copy", split) for split in ("train", "val"))
    kept = "that are kept with a shorter side of 48 pixels"
    enlarged = "asks for 64, to which they are enlarged."
    told = notes(train("--data", tmp_path / "copy"))
    assert [note for note in told if "kept with" in note] == [
        f"Note: Images of {train_file} {kept}: 4; data.short_sides {enlarged}",
        f"Note: Images of {val_file} {kept}: 2; data.eval_short_side {enlarged}",
    ]
    assert notes(run("evaluate", checkpoint, "--data", tmp_path / "copy")) == [
        f"Note: Images of {val_file} {kept}: 2; the detector {enlarged}",
    ]


def test_splits_whose_categories_differ(train: Run, data: Path) -> None:
    change(data, "val", lambda tree: tree["categories"][1].update(name="other"))
    require_sentence(train(), str(annotations(data, "val")), "label 1 is 2 'other', not 2 'class 2'", "give")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"hello", "half"])
def test_an_image_that_does_not_decode(
    tmp_path: Path, train: Run, data: Path, checkpoint: Path, content: Any, workers: int
) -> None:
    bad = data / "val" / "0002.png"
    bad.write_bytes(bad.read_bytes()[:2000] if content == "half" else content)
    parts = str(bad), "cannot be read", "restore it"
    require_sentence(run("evaluate", checkpoint, "--data", data, "--workers", workers), *parts)
    require_sentence(run("predict", checkpoint, data / "val", "--out", tmp_path / "found"), *parts)
    if content == "half":
        shutil.copy(bad, data / "train" / "0002.png")
        met = train("--set", f"data.workers={workers}", "--set", "data.batch_size=1", steps=4)
        require_sentence(met, str(data / "train" / "0002.png"), "cannot be read")


def test_an_image_of_another_size(train: Run, data: Path) -> None:
    change(data, "train", lambda tree: [image.update(width=50) for image in tree["images"]])
    require_sentence(train(), str(data / "train"), "is 64 x 64 pixels", "states 50 x 64")


def test_images_of_every_kind(tmp_path: Path, train: Run, data: Path) -> None:
    def edit(tree: Tree) -> None:
        grey, cmyk, turned, deep = (data / "train" / image["file_name"] for image in tree["images"])
        Image.open(grey).convert("L").save(grey)
        Image.open(cmyk).convert("CMYK").save(cmyk.with_suffix(".jpg"))
        tree["images"][1]["file_name"] = cmyk.with_suffix(".jpg").name
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(turned).resize((32, 64)).save(turned, exif=exif)
        tree["images"][2].update(width=64, height=32)
        pixels = np.asarray(Image.open(deep).convert("L"), np.uint16) * 257
        Image.fromarray(pixels).save(deep)

    change(data, "train", edit)
    assert train(steps=2).exit_code == 0
    found = run("predict", tmp_path / "run", data / "train", "--out", tmp_path / "found")
    assert found.exit_code == 0, found.output
    with Image.open(tmp_path / "found" / "0003.png") as picture:
        assert picture.width == 2 * picture.height  # turned, and drawn enlarged


def test_one_image_fills_a_larger_batch(train: Run, data: Path) -> None:
    def edit(tree: Tree) -> None:
        tree["images"] = tree["images"][:1]
        tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] == 1]

    change(data, "train", edit)
    done = train("--set", "data.batch_size=4")
    assert done.exit_code == 0, done.output
    assert "1 images to train on" in done.stderr


@pytest.mark.parametrize(
    ("name", "write", "part"),
    [
        ("random.safetensors", lambda path: path.write_bytes(os.urandom(3000)), "not a readable safetensors"),
        ("empty.safetensors", lambda path: path.touch(), "not a readable safetensors"),
        ("cut.safetensors", lambda path: path.write_bytes(cut(path)), "not a readable safetensors"),
        ("foreign.safetensors", lambda path: save_file({"a": torch.zeros(3)}, path), "does not say that"),
        ("some.pth", lambda path: torch.save({"model": {"a": torch.zeros(3)}}, path), "some.pth"),
        ("random.pth", lambda path: path.write_bytes(os.urandom(3000)), "random.pth"),
        ("folder", lambda path: path.mkdir(), "a folder without a model.safetensors"),
        ("nothing.safetensors", lambda path: None, "no file"),
    ],
)
def test_a_checkpoint_of_another_layout(
    tmp_path: Path, data: Path, name: str, write: Callable[[Path], object], part: str
) -> None:
    write(tmp_path / name)
    require_sentence(run("evaluate", tmp_path / name, "--data", data), str(tmp_path / name), part)
    require_sentence(run("predict", tmp_path / name, data / "val"), str(tmp_path / name), part)


def cut(path: Path) -> bytes:
    save_file({"a": torch.zeros(3000)}, path)
    return path.read_bytes()[:5000]


def test_a_detector_whose_weights_are_not_finite(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    from detrkit.weights import store

    stored = store.read(checkpoint)
    stored.tensors["network.decoder.heads.classes.bias"].fill_(float("nan"))
    store.write(checkpoint, stored.tensors, stored.experiment, stored.categories)
    require_sentence(run("evaluate", checkpoint, "--data", data, "--workers", 0), "not finite")
    require_sentence(run("predict", checkpoint, data / "val", "--out", tmp_path / "found"), "not finite")


@pytest.mark.parametrize(
    ("assignment", "part"),
    [
        ("data.short_sides=[]", "data.short_sides = []"),
        ("data.batch_size=0", "data.batch_size = 0"),
        ("data.max_size=10", "max_size is 10"),
        ("data.val_split=test", "no split test, but train, val"),
        ("model.backbone.weights=gone.pth", "'gone.pth', which is no file"),
        ("model.transformer.heads=5", "divisible by 4 and by heads (5)"),
        ("model.decoder.kind=other", "model.decoder.kind = 'other'"),
        ("optim.lr=nan", "optim.lr = nan"),
        ("optim.lr", "write it as name=value"),
        ("lr=1", "did you mean 'optim.lr'?"),
        ("model=1", "no setting 'model'"),
        ("train.seed=99999999999999999999", "train.seed = 99999999999999999999"),
        ("train.budget=5m", "both say how long to train"),
    ],
)
def test_settings_that_are_wrong(train: Run, assignment: str, part: str) -> None:
    require_sentence(train("--set", assignment), part)


def test_folders_that_cannot_be_written_to(
    tmp_path: Path, train: Run, data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    commands = {
        "train": lambda out: train(out=out),
        "evaluate": lambda out: run("evaluate", checkpoint, "--data", data, "--out", out),
        "predict": lambda out: run("predict", checkpoint, data / "val", "--out", out),
        "shapes": lambda out: run("data", "shapes", out),
    }
    for command in commands.values():
        require_sentence(command(file), str(file), "File exists")
        require_sentence(command(file / "inner"), str(file / "inner"), "Not a directory")
    # in place of a read-only folder, to which root could write all the same
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for name, command in commands.items():
        require_sentence(command(tmp_path / name), str(tmp_path / name), "cannot be written to")


def test_resuming(tmp_path: Path, train: Run) -> None:
    require_sentence(train("--resume"), str(tmp_path / "run"), "no training state", "without --resume")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()  # as a run leaves it that is killed while it reads its data
    begun = train("--resume")
    assert begun.exit_code == 0, begun.output
    assert "No step of this run was saved before" in begun.stderr
    log = (tmp_path / "run" / "log.jsonl").read_text()
    again = train("--resume")
    assert again.exit_code == 0, again.output
    assert "Finished at step 1" in again.stderr
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
    state = tmp_path / "run" / "last" / "state.json"
    state.write_text(state.read_text()[:100])
    require_sentence(train("--resume"), str(state), "damaged")


def test_a_budget_is_turned_into_steps_once(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    out = tmp_path / "run"
    assignments = [word for name, value in small_detr.items() for word in ("--set", f"{name}={value}")]
    command = ["train", "detr_r50", "--data", data, "--out", out, "--budget", "1s", *assignments]
    assert run(*command).exit_code == 0
    assert "# The budget of 1s is " in (out / "experiment.toml").read_text()
    again = run(*command, "--resume")
    assert again.exit_code == 0
    assert "steps that it began with, not 1s." in again.stderr
    assert run("train", out / "experiment.toml", "--data", data, "--out", out, "--resume").exit_code == 0
    assert run("evaluate", out, "--data", data, "--workers", 0).exit_code == 0
