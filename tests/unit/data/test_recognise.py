from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detrkit.data.formats.recognise import choose_split, read_split, recognise, splits
from detrkit.errors import DetrkitError


@pytest.fixture
def root(content: Any, write: Callable) -> Path:
    annotations, folder = write(content)
    annotations.with_name("instances_val.json").write_bytes(annotations.read_bytes())
    annotations.with_name("captions_val.json").write_text("{}")
    return folder.parent


def test_splits_of_coco(shared: Path) -> None:
    assert recognise(shared / "coco-mini") == "coco"
    assert splits(shared / "coco-mini") == ["train2017", "val2017"]
    assert len(read_split(shared / "coco-mini", "val2017")) == 120


def test_splits_of_voc(shared: Path) -> None:
    assert recognise(shared / "bccd") == "voc"
    assert splits(shared / "bccd") == ["test", "train", "trainval", "val"]
    assert len(read_split(shared / "bccd", "val")) == 87
    assert choose_split(shared / "bccd", "", ("val2017", "val")) == "val"


def test_a_folder_with_both_layouts_is_cocos(root: Path) -> None:
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    assert recognise(root) == "coco"
    for file in (root / "annotations").iterdir():
        file.unlink()
    assert recognise(root) == "voc"


def test_yolo_is_what_has_a_data_yaml_and_no_other_layout(root: Path) -> None:
    (root / "data.yaml").write_text("names: [cat]\ntrain: some\nval: some\n")
    assert recognise(root) == "coco"
    assert splits(root, "yolo") == ["train", "val"]
    for file in (root / "annotations").iterdir():
        file.unlink()
    assert recognise(root) == "yolo"
    assert splits(root) == ["train", "val"]
    assert choose_split(root, "", ("val2017", "val")) == "val"


def test_a_split_that_is_wanted_comes_before_the_usual_ones(root: Path) -> None:
    assert splits(root) == ["some", "val"]
    assert choose_split(root, "some", ("val2017", "val")) == "some"
    assert choose_split(root, "", ("val2017", "val")) == "val"
    assert choose_split(root, "", ("some", "val")) == "some"


@pytest.mark.parametrize(("wanted", "usual"), [("test", ("val",)), ("", ("test", "train"))])
def test_a_missing_split_names_those_found_and_the_setting(
    root: Path, wanted: str, usual: tuple[str, ...]
) -> None:
    with pytest.raises(DetrkitError, match=r"no split test.*some, val.*data\.train_split"):
        choose_split(root, wanted, usual)


def test_reading_a_missing_split(root: Path) -> None:
    with pytest.raises(DetrkitError, match="no split test, but some, val"):
        read_split(root, "test")


def test_an_unknown_layout_says_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError) as caught:
        splits(tmp_path)
    for known in (
        "annotations/instances_SPLIT.json and the images in SPLIT/",
        "ImageSets/Main/SPLIT.txt",
        "YOLO's has data.yaml",
    ):
        assert known in str(caught.value)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="absent is not a folder"):
        splits(tmp_path / "absent")
