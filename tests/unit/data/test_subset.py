import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detrkit.cli.main import app
from detrkit.data.formats.recognise import read_split, recognise, splits

WriteCoco = Callable[..., Path]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", "subset", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def content(root: Path, split: str) -> dict:
    return json.loads((root / f"annotations/instances_{split}.json").read_text("utf-8"))


def objects(tree: dict) -> dict[str, list]:
    """The annotations of each image by its file's name."""
    name = {one["id"]: one["file_name"] for one in tree["images"]}
    found: dict[str, list] = {one: [] for one in name.values()}
    for one in tree["annotations"]:
        found[name[one["image_id"]]].append((one["id"], one["category_id"], one["bbox"], one["area"]))
    return found


def test_images_keep_all_that_is_theirs(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[2, 0, 1, 3, 1, 2, 0, 1, 4, 2], val=[1, 2, 1])
    output = run(root, tmp_path / "new", "--images", 4)
    assert "train: 4 images" in output
    assert "val: 3 images" in output  # it has no more
    for split, number in (("train", 4), ("val", 3)):
        before, after = objects(content(root, split)), objects(content(tmp_path / "new", split))
        assert len(after) == number
        assert list(after) == sorted(after)  # the order of the source
        written = read_split(tmp_path / "new", split)
        for index, (name, found) in enumerate(after.items()):
            assert [one[:2] for one in found] == [one[:2] for one in before[name]]
            boxes = [np.reshape([one[2] for one in rows], (-1, 4)) for rows in (found, before[name])]
            np.testing.assert_allclose(*boxes, atol=1e-9)
            assert written.path(index).samefile(root / split / name)
        assert content(tmp_path / "new", split)["categories"] == content(root, split)["categories"]


def test_a_fraction_is_of_each_split_and_the_seed_decides(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[1] * 40, val=[1] * 10)
    drawn = {}
    for name, options in {
        "first": [],
        "again": [],
        "other": ["--seed", 1],
        "random": ["--random"],
        "random again": ["--random"],
    }.items():
        run(root, tmp_path / name, "--images", 0.3, *options)
        drawn[name] = {split: set(objects(content(tmp_path / name, split))) for split in ("train", "val")}
        assert [len(found) for found in drawn[name].values()] == [12, 3]
    assert drawn["first"] == drawn["again"]
    assert drawn["random"] == drawn["random again"]
    assert len({tuple(sorted(one["train"])) for one in drawn.values()}) == 3


@pytest.mark.parametrize("keep_empty", [True, False])
@pytest.mark.parametrize("keep_categories", [True, False])
def test_classes(tmp_path: Path, write_coco: WriteCoco, keep_empty: bool, keep_categories: bool) -> None:
    root = write_coco(tmp_path / "coco", train=[2, 0, 1, 3, 1, 2, 0, 1, 4, 2])
    options = ["--keep-empty"] * keep_empty + ["--keep-categories"] * keep_categories
    run(root, tmp_path / "new", "--classes", "class 3, class 1", *options)
    before, after = content(root, "train"), content(tmp_path / "new", "train")
    kept = [one for one in before["annotations"] if one["category_id"] != 2]
    assert 0 < len(kept) < len(before["annotations"])
    assert [one["id"] for one in after["annotations"]] == [one["id"] for one in kept]
    assert [one["category_id"] for one in after["annotations"]] == [one["category_id"] for one in kept]
    held = {one["image_id"] for one in kept}
    assert [one["id"] for one in after["images"]] == [
        one["id"] for one in before["images"] if keep_empty or one["id"] in held
    ]
    assert after["categories"] == [one for one in before["categories"] if keep_categories or one["id"] != 2]


def test_classes_come_first_and_images_are_drawn_from_what_is_left(
    tmp_path: Path, write_coco: WriteCoco
) -> None:
    root = write_coco(tmp_path / "coco", train=[1] * 60)
    of_class = [one["image_id"] for one in content(root, "train")["annotations"] if one["category_id"] == 2]
    run(root, tmp_path / "new", "--classes", "class 2", "--images", 5)
    drawn = [one["id"] for one in content(tmp_path / "new", "train")["images"]]
    assert len(drawn) == 5
    assert set(drawn) <= set(of_class)


def test_a_split_without_the_classes_is_left_out_and_said(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[3, 3, 3], val=[0, 0])
    output = run(root, tmp_path / "new", "--classes", "class 1")
    assert "Left out: split val, of which no image has an object of these classes" in output
    assert splits(tmp_path / "new") == ["train"]


def test_bccd_by_counting_its_xml(tmp_path: Path, shared: Path) -> None:
    options = ("--classes", "WBC,Platelets", "--splits", "val,test", "--to", "voc")
    run(shared / "bccd", tmp_path / "new", *options)
    assert recognise(tmp_path / "new") == "voc"
    texts = {file.stem: file.read_text() for file in (shared / "bccd/Annotations").glob("*.xml")}
    for split in ("val", "test"):
        listed = (shared / f"bccd/ImageSets/Main/{split}.txt").read_text().split()
        expected = {
            f"{name}.jpg": Counter(
                {kind: texts[name].count(f"<name>{kind}<") for kind in ("WBC", "Platelets")}
            )
            for name in listed
        }
        written = read_split(tmp_path / "new", split)
        found = {
            name: Counter(written.categories[label].name for label in written.labels[written.rows(index)])
            for index, name in enumerate(written.file_names.tolist())
        }
        assert found == {name: +one for name, one in expected.items() if one.total()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "needs --images N, --classes A,B or both"),
        (["--images", "1.5"], "--images is '1.5', but a number of images such as 500"),
        (["--images", "0"], "--images is '0'"),
        (
            ["--classes", "clas 1"],
            "no class 'clas 1', but class 1, class 2, class 3: did you mean 'class 1'?",
        ),
        (["--classes", "class 1", "--splits", "val"], "no image of val has an object of class 1"),
        (["--images", "1", "--splits", "gone"], "no split gone, but train, val"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, write_coco: WriteCoco, options: list[str], words: str
) -> None:
    root = write_coco(tmp_path / "coco", train=[3, 3, 3], val=[0, 0])
    result = CliRunner().invoke(app, ["data", "subset", str(root), str(tmp_path / "new"), *options])
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
