import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from detrkit.catalog import Catalog
from detrkit.cli.main import app
from detrkit.data.convert import convert
from detrkit.data.formats.recognise import read_split, splits
from detrkit.data.merge import alike
from detrkit.data.overlap import drop_repeated_splits
from detrkit.data.subset import take_images

WriteCoco = Callable[..., Path]


def run(command: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", command, *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rename(root: Path, split: str, names: dict[int, str]) -> None:
    """Write the names of categories by their ids, and drop the annotations of all others."""
    file = root / f"annotations/instances_{split}.json"
    tree = json.loads(file.read_text())
    tree["categories"] = [{"id": number, "name": name} for number, name in names.items()]
    tree["annotations"] = [one for one in tree["annotations"] if one["category_id"] in names]
    file.write_text(json.dumps(tree))


def by_content(*catalogs: Catalog) -> dict[bytes, list[tuple[Any, ...]]]:
    """For each image, by its bytes, the names and boxes of its objects."""
    return {
        catalog.path(index).read_bytes(): [
            (catalog.categories[label].name, *np.round(box, 6).tolist(), crowd)
            for label, box, crowd in zip(
                catalog.labels[catalog.rows(index)],
                catalog.boxes[catalog.rows(index)],
                catalog.crowds[catalog.rows(index)],
                strict=True,
            )
        ]
        for catalog in catalogs
        for index in range(len(catalog))
    }


def classes(root: Path, split: str) -> Counter[str]:
    tree = json.loads((root / f"annotations/instances_{split}.json").read_text())
    name = {one["id"]: one["name"] for one in tree["categories"]}
    return Counter(name[one["category_id"]] for one in tree["annotations"])


@pytest.mark.parametrize("layout", ["coco", "voc", "yolo"])
def test_parts_of_a_split_merge_to_what_was_split(tmp_path: Path, write_coco: WriteCoco, layout: str) -> None:
    root = write_coco(tmp_path / "coco", train=[2, 0, 1, 3, 1, 2, 0, 1, 4, 2])
    run("split", root, tmp_path / "parts", "--parts", "train=0.5,val=0.3,test")
    for part in ("train", "val", "test"):
        run("subset", tmp_path / "parts", tmp_path / part, "--splits", part, "--images", 100)
        (tmp_path / part / f"annotations/instances_{part}.json").rename(
            tmp_path / part / "annotations/instances_train.json"
        )
        if part != "train":
            (tmp_path / part / part).rename(tmp_path / part / "train")
    run("merge", *(tmp_path / part for part in ("val", "train", "test")), tmp_path / "new", "--to", layout)
    assert splits(tmp_path / "new") == ["train"]
    source = read_split(root, "train")
    if layout == "voc":  # it has whole pixels
        convert(root, tmp_path / "voc", "voc")
        source = read_split(tmp_path / "voc", "train")
    written = read_split(tmp_path / "new", "train")
    expected, found = by_content(source), by_content(written)
    assert found.keys() == expected.keys()
    for image, objects in expected.items():
        assert [one[0] for one in found[image]] == [one[0] for one in objects]
        for one, other in zip(found[image], objects, strict=True):
            np.testing.assert_allclose(one[1:5], other[1:5], atol=1e-5)
    if layout == "coco":  # ids that do not meet are kept
        assert dict(zip(written.file_names.tolist(), written.image_ids.tolist(), strict=True)) == dict(
            zip(source.file_names.tolist(), source.image_ids.tolist(), strict=True)
        )
        assert sorted(written.annotation_ids) == sorted(source.annotation_ids)


def test_equal_names_and_ids_of_two_sources_stay_apart(tmp_path: Path, write_coco: WriteCoco) -> None:
    first = write_coco(tmp_path / "first", train=[2, 0, 1], val=[1])
    second = write_coco(tmp_path / "second", train=[1, 2, 3, 1], extra=[2])
    output = run("merge", first, second, tmp_path / "new")
    assert "train: 7 images, 10 objects" in output
    assert "Changed: images with another name: 3" in output
    assert splits(tmp_path / "new") == ["extra", "train", "val"]
    written = read_split(tmp_path / "new", "train")
    assert len(set(written.image_ids.tolist())) == len(set(written.file_names.tolist())) == 7
    assert len(set(written.annotation_ids.tolist())) == 10
    assert by_content(written) == by_content(read_split(first, "train"), read_split(second, "train"))
    assert by_content(read_split(tmp_path / "new", "extra")) == by_content(read_split(second, "extra"))


def test_classes_are_matched_by_name_renamed_and_dropped(tmp_path: Path, write_coco: WriteCoco) -> None:
    first = write_coco(tmp_path / "first", train=[9] * 5)
    second = write_coco(tmp_path / "second", train=[9] * 6)
    rename(first, "train", {1: "car", 2: "dog", 3: "Traffic Light"})
    rename(second, "train", {1: "traffic_light", 2: "automobile", 3: "person"})
    before = classes(first, "train") + classes(second, "train")
    names = tmp_path / "names.toml"
    names.write_text('automobile = "car"\n')
    output = run("merge", first, second, tmp_path / "new", "--map", names, "--map", "person=")
    assert f"Renamed: automobile to car, of {second}" in output
    assert f"Dropped: person, of {second}" in output
    assert f"Of {first} alone: 2 classes, Traffic Light, dog" in output
    assert f"Of {second} alone: 1 classes, traffic_light" in output
    assert "Alike, but not matched: Traffic Light, traffic_light" in output
    tree = json.loads((tmp_path / "new/annotations/instances_train.json").read_text())
    assert [(one["id"], one["name"]) for one in tree["categories"]] == [
        (1, "car"),
        (2, "dog"),
        (3, "Traffic Light"),
        (4, "traffic_light"),
    ]
    assert len(tree["images"]) == 11
    assert classes(tmp_path / "new", "train") == {
        "car": before["car"] + before["automobile"],
        "dog": before["dog"],
        "Traffic Light": before["Traffic Light"],
        "traffic_light": before["traffic_light"],
    }


def test_names_alike() -> None:
    assert alike(["car", "Traffic Light", "cart", "CAR", "traffic-light"]) == [
        ["car", "CAR"],
        ["Traffic Light", "traffic-light"],
    ]


def test_the_same_folder_twice_is_there_once(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", train=[2, 0, 1])
    output = run("merge", root, root, tmp_path / "new")
    assert "Left out: images of train that an earlier dataset has too: 3" in output
    assert by_content(read_split(tmp_path / "new", "train")) == by_content(read_split(root, "train"))


def test_two_layouts(tmp_path: Path, shared: Path) -> None:
    convert(shared / "bccd", tmp_path / "voc", "voc", chosen=("test",))
    lists = tmp_path / "voc/ImageSets/Main"
    (lists / "all.txt").write_bytes((lists / "test.txt").read_bytes())
    output = run("merge", shared / "coco-mini", tmp_path / "voc", tmp_path / "new", "--map", "WBC=person")
    assert f"Left out: split all of {tmp_path / 'voc'}, all of whose images its other splits have" in output
    assert splits(tmp_path / "new") == ["test", "train2017", "val2017"]
    listed = (shared / "bccd/ImageSets/Main/test.txt").read_text().split()
    text = "".join((shared / f"bccd/Annotations/{name}.xml").read_text() for name in listed)
    kinds = {"WBC": "person", "RBC": "RBC", "Platelets": "Platelets"}
    expected = Counter({new: text.count(f"<name>{old}<") for old, new in kinds.items()})
    assert classes(tmp_path / "new", "test") == expected
    for split in ("train2017", "val2017"):
        assert classes(tmp_path / "new", split) == classes(shared / "coco-mini", split)
    tree = json.loads((tmp_path / "new/annotations/instances_test.json").read_text())
    ids = {one["name"]: one["id"] for one in tree["categories"]}
    assert (ids["person"], ids["toothbrush"], ids["Platelets"], ids["RBC"]) == (1, 90, 91, 92)


def test_splits_that_repeat_others_are_found(tmp_path: Path, write_coco: WriteCoco) -> None:
    root = write_coco(tmp_path / "coco", all=[1] * 6)
    whole = read_split(root, "all")
    (tmp_path / "link").symlink_to(root / "all")

    def some(*images: int) -> Catalog:
        return take_images(whole, np.array(images))

    lists = {"test": some(5), "train": some(0, 1, 2), "trainval": some(4, 0, 1, 3, 2), "val": some(3, 4)}
    assert list(drop_repeated_splits(lists)) == ["test", "train", "val"]
    del lists["val"]
    assert list(drop_repeated_splits(lists)) == ["test", "trainval"]
    twins = {"a": some(1), "b": replace(some(1), folder=tmp_path / "link")}
    assert list(drop_repeated_splits(twins)) == ["b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--map", "clas 1=a"], "--map names the class 'clas 1', but the 3 classes"),
        (["--map", "car"], "--map car is neither old=new"),
        (["--map", "=car"], "--map =car is neither old=new"),
        (["--map", "gone.toml"], "gone.toml cannot be read"),
        (["--map", "class 1=a", "--map", "class 1=b"], "renames 'class 1' to 'a' and to 'b'"),
        (["--map", "class 1=", "--map", "class 2=", "--map", "class 3="], "drops every class"),
        (["--map", "broken.json"], "broken.json cannot be read"),
        (["--map", "twice.json"], "twice.json cannot be read (the name 'car' stands there 2 times)"),
        (["--map", "number.toml"], "number.toml holds something else than old names"),
        (["--map", "list.json"], "list.json holds something else than old names"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_coco: WriteCoco,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("number.toml").write_text("car = 3")
    Path("twice.json").write_text('{"car": "bus", "dog": "cat", "car": "tram"}')
    Path("list.json").write_text('["car"]')
    for name in ("first", "second"):
        write_coco(tmp_path / name, train=[1])
    result = CliRunner().invoke(app, ["data", "merge", "first", "second", "new", *options])
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not Path("new").exists()


def test_one_folder_is_too_few(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "merge", str(tmp_path), str(tmp_path / "new")])
    assert result.exit_code == 2
    assert "needs two datasets at least" in result.output
