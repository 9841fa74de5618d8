import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from detrkit.catalog import Catalog
from detrkit.cli.main import app
from detrkit.data.formats.recognise import read_split, splits
from detrkit.data.shares import count_of, counts_of, read_share, read_shares
from detrkit.data.split import originals, split
from detrkit.errors import DetrkitError

CatalogOf = Callable[[Sequence[Sequence[int]], int], Catalog]
WriteCoco = Callable[..., Path]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", "split", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 2), max_size=3)), min_size=2, max_size=25),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 9),
)
def test_each_image_is_in_one_part_and_copies_are_together(
    catalog_of: CatalogOf, images: list[tuple[int, list[int]]], fraction: float, stratified: bool, seed: int
) -> None:
    contents = [str(content) for content, _ in images]
    original_of = originals(contents)
    distinct = len(set(contents))
    first = round(fraction * distinct)
    parts = split(
        catalog_of([labels for _, labels in images], 3),
        original_of,
        {"first": first, "second": distinct - first},
        seed,
        stratified=stratified,
    )
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(images)))
    found = {name: {contents[image] for image in part} for name, part in parts.items()}
    assert found["first"].isdisjoint(found["second"])
    assert len(found["first"]) == first


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(10000, 200000))
def test_fractions_become_counts_that_differ_by_less_than_one(weights: list[int], total: int) -> None:
    fractions = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    if len(weights) == 1:
        fractions["0"] = 1.0
    counts = counts_of(fractions, total, "--parts")
    assert sum(counts.values()) == total
    assert all(abs(counts[name] - fractions[name] * total) < 1 + 1e-6 for name in counts)


def test_shares_as_they_are_written() -> None:
    assert read_shares("train, val=500,test=.1", "--parts") == {"train": None, "val": 500, "test": 0.1}
    assert counts_of({"train": None, "val": 500, "test": 0.1}, 1000, "--parts") == {
        "train": 400,
        "val": 500,
        "test": 100,
    }
    assert counts_of({"train": 0.7, "val": 0.3}, 10, "--parts") == {"train": 7, "val": 3}
    assert read_share("12", "--images") == 12
    assert (count_of(0.25, 10), count_of(0.001, 10), count_of(12, 10)) == (2, 1, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train=0.8", r"--parts shares out 8 of 10 images, and 0 names have no number"),
        ("train=0.8,val=0.3", r"shares out 11 of 10 images"),
        ("train=9,val=2", r"shares out 11 of 10 images"),
        ("train,val", r"shares out 0 of 10 images, and 2 names have no number"),
        ("train=10,val", r"val would have none of the 10 images"),
        ("train=1.5,val", r"train is '1.5', but a number of images"),
        ("train=-1,val", r"train is '-1'"),
        ("a/b=0.5,val", r"the name 'a/b'"),
        ("val=0.5,val", r"the name 'val'"),
        ("", r"the name ''"),
        ("train=,val", r"train is ''"),
    ],
)
def test_shares_that_are_none(text: str, words: str) -> None:
    with pytest.raises(DetrkitError, match=words):
        counts_of(read_shares(text, "--parts"), 10, "--parts")


def test_splits_are_pooled_and_every_image_is_kept_once(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[2, 0, 1, 3] * 5, val=[1, 2, 1] * 3)
    output = run(root, tmp_path / "new", "--parts", "train=12,val=0.5,test")
    boxes_of = {
        catalog.path(index).read_bytes(): catalog.boxes[catalog.rows(index)]
        for catalog in (read_split(root, "train"), read_split(root, "val"))
        for index in range(len(catalog))
    }
    assert splits(tmp_path / "new") == ["test", "train", "val"]
    total = 0
    ids: list[int] = []
    for name, expected in (("train", 12), ("val", 14), ("test", 3)):
        written = read_split(tmp_path / "new", name)
        assert len(written) == expected
        assert f"{name}: {expected} images" in output
        ids += written.image_ids.tolist()
        for index in range(len(written)):
            boxes = written.boxes[written.rows(index)]
            np.testing.assert_allclose(boxes, boxes_of.pop(written.path(index).read_bytes()))
            total += len(boxes)
    assert not boxes_of
    assert len(set(ids)) == 29  # both splits of the source count from 1
    assert total == 30 + 12


def test_ids_stay_where_they_can(tmp_path: Path, shared: Path) -> None:
    run(shared / "coco-mini", tmp_path / "new", "--parts", "train=0.5,val=0.5")
    stated: dict[int, str] = {}
    for name in ("train2017", "val2017"):
        tree = json.loads((shared / f"coco-mini/annotations/instances_{name}.json").read_text())
        stated |= {one["id"]: one["file_name"] for one in tree["images"]}
    found: dict[int, str] = {}
    for name in ("train", "val"):
        written = read_split(tmp_path / "new", name)
        assert len(written) == 188
        found |= dict(zip(written.image_ids.tolist(), written.file_names.tolist(), strict=True))
    assert found == stated


def test_files_with_the_same_bytes_stay_together(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[1] * 12)
    for number in range(2, 7):
        (root / f"train/{number:04d}.png").write_bytes((root / "train/0001.png").read_bytes())
    output = run(root, tmp_path / "new", "--parts", "train=3,val")
    assert "Kept together: images whose files have the same bytes as another's: 5" in output
    names = [set(read_split(tmp_path / "new", name).file_names.tolist()) for name in ("train", "val")]
    copies = {f"{number:04d}.png" for number in range(1, 7)}
    assert copies in [one & copies for one in names]
    assert sorted(map(len, names)) in ([3, 9], [4, 8])


def test_a_file_that_two_lists_name_is_taken_once(tmp_path: Path, shared: Path) -> None:
    output = run(shared / "bccd", tmp_path / "new", "--splits", "train,trainval", "--parts", "a=0.5,b=0.5")
    assert "Taken once: images that several of train, trainval have, 205 times more" in output
    names = [read_split(tmp_path / "new", name).file_names.tolist() for name in ("a", "b")]
    assert len(names[0]) == len(names[1]) == 146
    listed = (shared / "bccd/ImageSets/Main/trainval.txt").read_text().split()
    assert sorted(names[0] + names[1]) == sorted(f"{name}.jpg" for name in listed)
