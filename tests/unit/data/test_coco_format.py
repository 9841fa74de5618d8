import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detrkit.catalog import Catalog
from detrkit.data.formats.coco import read_coco, read_coco_split, write_coco
from detrkit.errors import DetrkitError

COLUMNS = [field.name for field in fields(Catalog) if field.name not in ("source", "folder")]


def require_equal(found: Catalog, expected: Catalog) -> None:
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_a_catalog_holds_what_pycocotools_reads(shared: Path, split: str) -> None:
    root = shared / "coco-mini"
    catalog = read_coco_split(root, split)
    coco = COCO(str(root / "annotations" / f"instances_{split}.json"))
    category_ids = sorted(coco.cats)
    assert catalog.image_ids.tolist() == list(coco.imgs)
    assert [category.id for category in catalog.categories] == category_ids
    assert [category.name for category in catalog.categories] == [coco.cats[i]["name"] for i in category_ids]
    assert catalog.crowds.sum() == sum(one["iscrowd"] for one in coco.anns.values())
    for index, image in enumerate(coco.imgs.values()):
        rows = catalog.rows(index)
        expected = coco.imgToAnns[image["id"]]
        assert catalog.path(index) == root / split / image["file_name"]
        assert catalog.size(index) == (image["height"], image["width"])
        assert catalog.annotation_ids[rows].tolist() == [one["id"] for one in expected]
        assert catalog.areas[rows].tolist() == [one["area"] for one in expected]
        assert catalog.crowds[rows].tolist() == [bool(one["iscrowd"]) for one in expected]
        assert [category_ids[label] for label in catalog.labels[rows]] == [
            one["category_id"] for one in expected
        ]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in expected)]
        assert catalog.boxes[rows].tolist() == corners


def test_sparse_ids_in_any_order(content: Any, write: Callable) -> None:
    catalog = read_coco(*write(content))
    assert catalog.image_ids.tolist() == [70, 3, 12]
    assert catalog.offsets.tolist() == [0, 3, 5, 5]
    assert catalog.annotation_ids.tolist() == [900, 1, 8, 5, 6]
    assert [(category.id, category.name) for category in catalog.categories] == [(2, "cat"), (9, "zebra")]
    assert catalog.labels.tolist() == [1, 0, 0, 0, 0]
    assert catalog.boxes[0].tolist() == [30.5, -2, 50.5, 10]


def test_what_may_be_missing_from_an_annotation(content: Any, write: Callable) -> None:
    for one in content["annotations"]:
        del one["id"], one["area"], one["iscrowd"]
    catalog = read_coco(*write(content))
    assert catalog.annotation_ids.tolist() == [2, 3, 4, 1, 5]
    assert catalog.areas.tolist() == [240, 1200, 0, 12, 25]
    assert not catalog.crowds.any()


def test_missing_annotation_ids_follow_the_largest(content: Any, write: Callable) -> None:
    del content["annotations"][0]["id"]
    assert 901 in read_coco(*write(content)).annotation_ids


def test_a_split_without_any_annotation(content: Any, write: Callable) -> None:
    catalog = read_coco(*write(content | {"annotations": []}))
    assert catalog.boxes.shape == (0, 4)
    assert catalog.offsets.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_what_is_written_reads_back_equal(shared: Path, tmp_path: Path, split: str) -> None:
    catalog = read_coco_split(shared / "coco-mini", split)
    write_coco(catalog, tmp_path / "annotations" / "again.json")
    require_equal(read_coco(tmp_path / "annotations" / "again.json", catalog.folder), catalog)
    assert len(COCO(str(tmp_path / "annotations" / "again.json")).anns) == len(catalog.boxes)


@given(
    st.lists(st.tuples(*[st.decimals(-100, 700, places=2), st.decimals(0, 700, places=2)] * 2), min_size=1)
)
def test_boxes_survive_the_way_there_and_back(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("there")
    first, second = folder / "first.json", folder / "second.json"
    boxes = [[float(x), float(y), float(w), float(h)] for x, w, y, h in rows]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
        "categories": [{"id": 1, "name": "thing"}],
    }
    first.write_text(json.dumps(content))
    catalog = read_coco(first, folder)
    write_coco(catalog, second)
    require_equal(read_coco(second, folder), catalog)


def image(**changes: object) -> Callable[[Any], None]:
    return lambda content: content["images"][1].update(changes)


def annotation(**changes: object) -> Callable[[Any], None]:
    return lambda content: content["annotations"][3].update(changes)


def category(**changes: object) -> Callable[[Any], None]:
    return lambda content: content["categories"][1].update(changes)


def without(section: str, key: str) -> Callable[[Any], None]:
    return lambda content: content[section][1].pop(key)


def change(section: str, value: object) -> Callable[[Any], None]:
    return lambda content: content.update({section: value})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content.pop("images"), ["`images`"]),
        (lambda content: content.pop("annotations"), ["`annotations`"]),
        (lambda content: content.pop("categories"), ["`categories`"]),
        (change("images", []), ["lists no images"]),
        (change("categories", []), ["lists no categories"]),
        (without("images", "file_name"), ["`file_name`", "images[1]"]),
        (without("images", "width"), ["`width`", "images[1]"]),
        (without("annotations", "category_id"), ["`category_id`", "annotations[1]"]),
        (without("categories", "name"), ["`name`", "categories[1]"]),
        (image(id="3"), ["`int`", "`str`", "images[1].id", "whole numbers"]),
        (image(id=3.5), ["`int`", "`float`", "images[1].id"]),
        (image(id=2**63), ["images[1].id"]),
        (image(id=70), ["two images have the id 70"]),
        (image(width=0), ["image 3 has the width 0", "at least 1"]),
        (image(height=-5), ["image 3 has the height -5", "at least 1"]),
        (image(file_name="../a.png"), ["image 3", "'../a.png'", "inside"]),
        (image(file_name="inner/../../a.png"), ["image 3", "inside"]),
        (image(file_name="..\\a.png"), ["image 3", "inside"]),
        (image(file_name="/etc/passwd"), ["image 3", "'/etc/passwd'", "inside"]),
        (image(file_name=""), ["image 3", "inside"]),
        (annotation(id="8"), ["annotations[3].id"]),
        (annotation(id=900), ["two annotations have the id 900"]),
        (annotation(category_id=3), ["annotation 8", "category_id 3", "2 categories", "from 2 to 9"]),
        (annotation(category_id=90), ["annotation 8", "category_id 90"]),
        (annotation(category_id="cat"), ["annotations[3].category_id"]),
        (annotation(image_id=71), ["annotation 8", "image_id 71", "3 images"]),
        (annotation(bbox=[1, 2, 3]), ["annotation 8", "[1.0, 2.0, 3.0]", "four finite numbers"]),
        (annotation(bbox=[1, 2, 3, 4, 5]), ["annotation 8", "four finite numbers"]),
        (annotation(bbox=[1, 2, "3", 4]), ["annotations[3].bbox[2]"]),
        (annotation(bbox=[1e308, 0, 1e308, 1]), ["annotation 8", "four finite numbers"]),
        (annotation(bbox=[math.nan, 0, 1, 1]), ["not JSON"]),
        (annotation(iscrowd=2), ["annotations[3].iscrowd"]),
        (category(id=9), ["two categories have the id 9"]),
        (category(name="zebra"), ["two categories have the name zebra"]),
    ],
)
def test_an_entry_that_is_not_as_expected_is_named(
    content: Any, write: Callable, spoil: Callable[[Any], None], words: list[str]
) -> None:
    spoil(content)
    annotations, folder = write(content)
    with pytest.raises(DetrkitError) as caught:
        read_coco(annotations, folder)
    assert str(annotations) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "not json", '{"images": [}', '{"images": "\udcff"}'])
def test_a_file_that_is_not_json(content: Any, write: Callable, text: str) -> None:
    annotations, folder = write(content)
    annotations.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DetrkitError, match=r"instances_some\.json is not "):
        read_coco(annotations, folder)


def test_json_of_another_kind(content: Any, write: Callable) -> None:
    annotations, folder = write([content])
    with pytest.raises(DetrkitError, match="not in COCO's format"):
        read_coco(annotations, folder)


def test_missing_annotations_say_what_lies_there(content: Any, write: Callable) -> None:
    annotations, folder = write(content)
    with pytest.raises(
        DetrkitError, match=r"instances_val\.json, but .*annotations holds instances_some\.json"
    ):
        read_coco(annotations.with_name("instances_val.json"), folder)


def test_a_missing_folder_says_what_lies_there(content: Any, write: Callable) -> None:
    annotations, folder = write(content)
    with pytest.raises(DetrkitError, match=r"other, but .* holds annotations, some"):
        read_coco(annotations, folder.with_name("other"))
