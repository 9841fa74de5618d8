import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.formats.voc import read_voc_split, voc_splits
from detrkit.data.transforms import unchanged
from detrkit.errors import DetrkitError

Object = tuple[str, tuple[object, object, object, object]]
"""A class and (xmin, ymin, xmax, ymax)."""


def xml(name: str, objects: list[Object], width: object = 40, height: object = 30) -> str:
    entries = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for kind, box in objects
    )
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{entries}</annotation>"
    )


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images: `b` and `c` of train, `a` of val; one without objects, one object difficult."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    annotations = {
        "a": xml("a", [("zebra", (1, 1, 40, 30))]),
        "b": xml("b", [("cat", (11, 6, 20, 25)), ("dog", ("48.5", 3, 60, 9))]),
        "c": xml("c", []),
    }
    for name, text in annotations.items():
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    edit(tmp_path / "Annotations/b.xml", "<name>dog</name><difficult>0", "<name>dog</name><difficult>1")
    (tmp_path / "ImageSets/Main/train.txt").write_text("c\nb\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    return tmp_path


def names(catalog: Catalog) -> list[str]:
    return [category.name for category in catalog.categories]


@pytest.fixture(scope="module")
def bccd(shared: Path) -> dict[str, Catalog]:
    """The three splits that share no image."""
    return {split: read_voc_split(shared / "bccd", split) for split in ("train", "val", "test")}


# Counts of lines: `grep -ho '<name>RBC' Annotations/*.xml | wc -l` and `wc -l ImageSets/Main/*.txt`.
def test_bccd_has_the_images_and_objects_of_its_text(bccd: dict[str, Catalog]) -> None:
    assert {split: len(catalog) for split, catalog in bccd.items()} == {"train": 205, "val": 87, "test": 72}
    found = Counter(names(catalog)[label] for catalog in bccd.values() for label in catalog.labels)
    assert found == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert sorted(np.concatenate([one.image_ids for one in bccd.values()])) == list(range(1, 365))
    assert sorted(np.concatenate([one.annotation_ids for one in bccd.values()])) == list(range(1, 4889))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_bccd_reads_as_its_text(shared: Path, bccd: dict[str, Catalog], split: str) -> None:
    root, catalog = shared / "bccd", bccd[split]
    listed = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    everything = sorted(file.stem for file in (root / "Annotations").iterdir())
    assert catalog.file_names.tolist() == [f"{name}.jpg" for name in listed]
    assert catalog.image_ids.tolist() == [everything.index(name) + 1 for name in listed]
    assert names(catalog) == ["Platelets", "RBC", "WBC"]
    assert [category.id for category in catalog.categories] == [1, 2, 3]
    for index, name in enumerate(listed):
        text = (root / "Annotations" / f"{name}.xml").read_text()
        classes, *edges = (
            re.findall(f"<{tag}>(.*)</{tag}>", text) for tag in ("name", "xmin", "ymin", "xmax", "ymax")
        )
        rows = catalog.rows(index)
        assert [names(catalog)[label] for label in catalog.labels[rows]] == classes
        assert catalog.boxes[rows].tolist() == [
            [int(xmin) - 1, int(ymin) - 1, int(xmax), int(ymax)]
            for xmin, ymin, xmax, ymax in zip(*edges, strict=True)
        ]
        assert catalog.size(index) == (480, 640)
    assert not catalog.crowds.any()
    require_images(catalog)


def test_the_boxes_of_one_file_by_hand(bccd: dict[str, Catalog]) -> None:
    catalog = bccd["val"]
    rows = catalog.rows(catalog.file_names.tolist().index("BloodImage_00000.jpg"))
    assert catalog.boxes[rows][:2].tolist() == [[259, 176, 491, 376], [77, 335, 184, 435]]
    assert catalog.areas[rows][:2].tolist() == [232 * 200, 107 * 100]


def test_the_two_points_of_bccd_are_boxes_of_one_pixel(bccd: dict[str, Catalog]) -> None:
    points = {
        str(catalog.file_names[index]): box.tolist()
        for catalog in bccd.values()
        for index in range(len(catalog))
        for box, area in zip(
            catalog.boxes[catalog.rows(index)], catalog.areas[catalog.rows(index)], strict=True
        )
        if area < 2
    }
    assert points == {
        "BloodImage_00338.jpg": [503, 336, 504, 337],
        "BloodImage_00343.jpg": [180, 328, 181, 329],
    }


pixels = st.integers(1, 500)
sides = st.tuples(pixels, pixels).map(sorted)


# VOCdevkit's own overlap, of which every width is xmax - xmin + 1 (VOCevaldet.m)
@given(st.tuples(sides, sides), st.tuples(sides, sides))
def test_one_based_boxes_overlap_as_in_the_development_kit(
    tmp_path_factory: pytest.TempPathFactory, first: tuple, second: tuple
) -> None:
    def corners(one: tuple) -> tuple[int, int, int, int]:
        (left, right), (top, bottom) = one
        return left, top, right, bottom

    a, b = corners(first), corners(second)
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared_area = width * height if width > 0 and height > 0 else 0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]

    root = tmp_path_factory.mktemp("voc")
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "Annotations/a.xml").write_text(xml("a", [("cell", a), ("cell", b)], 500, 500))
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    catalog = read_voc_split(root, "train")
    left_top = catalog.boxes[:, :2].max(axis=0)
    right_bottom = catalog.boxes[:, 2:].min(axis=0)
    assert catalog.areas.tolist() == areas
    assert (right_bottom - left_top).clip(0).prod() == shared_area


def test_images_are_in_the_order_of_their_list(root: Path) -> None:
    catalog = read_voc_split(root, "train")
    assert catalog.file_names.tolist() == ["c.jpg", "b.jpg"]
    assert catalog.source == root / "ImageSets" / "Main" / "train.txt"
    assert catalog.path(1) == root / "JPEGImages" / "b.jpg"
    assert catalog.offsets.tolist() == [0, 0, 2]
    assert catalog.boxes.tolist() == [[10, 5, 20, 25], [47.5, 2, 60, 9]]
    assert catalog.areas.tolist() == [10 * 20, 12.5 * 7]
    assert catalog.size(1) == (30, 40)


def test_every_split_has_the_same_categories_and_ids(root: Path) -> None:
    train, val = read_voc_split(root, "train"), read_voc_split(root, "val")
    assert train.categories == val.categories
    assert names(val) == ["cat", "dog", "zebra"]
    assert val.labels.tolist() == [2]
    assert (train.image_ids.tolist(), val.image_ids.tolist()) == ([3, 2], [1])
    assert (train.annotation_ids.tolist(), val.annotation_ids.tolist()) == ([2, 3], [1])
    (root / "ImageSets/Main/all.txt").write_text("a\nb\nc\n")
    together = read_voc_split(root, "all")
    assert together.image_ids.tolist() == together.annotation_ids.tolist() == [1, 2, 3]


def test_difficult_objects_are_crowds(root: Path) -> None:
    assert read_voc_split(root, "train").crowds.tolist() == [False, True]
    edit(root / "Annotations/b.xml", "<difficult>1</difficult>", "")
    assert read_voc_split(root, "train").crowds.tolist() == [False, False]


def test_parts_of_an_object_are_not_objects(root: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    edit(root / "Annotations/a.xml", "<object>", f"<object>{part}")
    catalog = read_voc_split(root, "val")
    assert names(catalog) == ["cat", "dog", "zebra"]
    assert catalog.boxes.tolist() == [[0, 0, 40, 30]]


def test_a_split_without_objects(root: Path) -> None:
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    catalog = read_voc_split(root, "val")
    assert (catalog.boxes.shape, catalog.offsets.tolist()) == ((0, 4), [0, 0])


def test_boxes_are_kept_as_they_stand(root: Path) -> None:
    edit(root / "Annotations/a.xml", "<xmax>40</xmax><ymax>30", "<xmax>-8</xmax><ymax>-9")
    catalog = read_voc_split(root, "val")
    assert catalog.boxes.tolist() == [[0, 0, -8, -9]]
    assert catalog.areas.tolist() == [0]


def test_samples_show_the_pixels_that_a_box_names(root: Path) -> None:
    picture = Image.new("RGB", (40, 30))
    ImageDraw.Draw(picture).rectangle((10, 5, 19, 24), fill="white")  # pixels 11..20 and 6..25, from one
    picture.save(root / "JPEGImages/b.png")
    (root / "JPEGImages/b.jpg").unlink()
    catalog = read_voc_split(root, "train")
    require_images(catalog)
    sample = SplitDataset(catalog, unchanged)[0, 1]
    assert (sample.image_id, sample.original_size) == (2, (30, 40))
    assert (sample.boxes.tolist(), sample.labels.tolist()) == ([[10, 5, 20, 25]], [0])
    left, top, right, bottom = sample.boxes[0].int().tolist()
    white = torch.zeros(3, 30, 40, dtype=torch.bool)
    white[:, top:bottom, left:right] = True
    assert torch.equal(sample.image == 255, white)


@pytest.mark.parametrize(
    ("stated", "files", "expected"),
    [
        ("b.jpg", ["b.jpg", "b.png"], "b.jpg"),
        ("other.png", ["other.png", "b.jpg"], "b.jpg"),
        ("other.png", ["other.png"], "other.png"),
        ("other.png", ["b.jpg"], "b.jpg"),
        ("", ["b.tif"], "b.tif"),
        ("b", ["b.JPEG"], "b.JPEG"),
        ("b.jpg", ["b.txt"], "b.jpg"),
        ("../secret.jpg", ["b.png"], "b.png"),
        ("../secret.jpg", [], "b.jpg"),
        ("/etc/passwd", [], "b.jpg"),
    ],
)
def test_the_file_of_an_image(root: Path, stated: str, files: list[str], expected: str) -> None:
    (root / "secret.jpg").touch()
    (root / "JPEGImages/b.jpg").unlink()
    for file in files:
        (root / "JPEGImages" / file).touch()
    edit(root / "Annotations/b.xml", "<filename>b.jpg", f"<filename>{stated}")
    catalog = read_voc_split(root, "train")
    assert catalog.file_names[1] == expected
    if expected not in files:
        with pytest.raises(DetrkitError, match=r"1 of the 2 images .*train\.txt .*JPEGImages.* being b\.jpg"):
            require_images(catalog)


def test_lists_of_one_class_are_no_splits(root: Path) -> None:
    lists = root / "ImageSets/Main"
    (lists / "cat_train.txt").write_text("c -1\nb  1\n")
    (lists / "cat_val.txt").write_text("a 0\n")
    (lists / "scans.txt").write_text("scan 1\nscan 2\n")
    (lists / "._train.txt").write_bytes(b"\x00\xb0")
    assert voc_splits(root) == ["scans", "train", "val"]
    assert voc_splits(root / "ImageSets") == []


def test_lists_and_files_as_other_systems_write_them(root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xef\xbb\xbfc \r\n\r\nb\r\n")
    (root / "Annotations/._b.xml").write_bytes(b"\x00\xb0")
    assert read_voc_split(root, "train").file_names.tolist() == ["c.jpg", "b.jpg"]


def replaced(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: edit(root / "Annotations/b.xml", old, new)


def written(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / file).write_bytes(content)


def renamed_to_another(root: Path) -> None:
    (root / "JPEGImages/b.jpg").unlink()
    edit(root / "Annotations/b.xml", "<filename>b", "<filename>a")


def emptied(root: Path) -> None:
    for name in "abc":
        (root / "Annotations" / f"{name}.xml").write_text(xml(name, []))


BOMB = b"""<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>"""
OUTSIDE = b"""<!DOCTYPE annotation [<!ENTITY file SYSTEM "file:///etc/passwd">]>
<annotation><filename>&file;</filename></annotation>"""
GREEDY = (
    b"""<!DOCTYPE annotation [<!ENTITY % more SYSTEM "http://localhost/more.dtd"> %more;]><annotation/>"""
)


@pytest.mark.parametrize(
    ("spoil", "file", "words"),
    [
        (replaced("<xmin>11</xmin>", ""), "b.xml", ["object 1 has no bndbox/xmin", "add it"]),
        (replaced("<xmin>11</xmin>", "<xmin> </xmin>"), "b.xml", ["object 1 has no bndbox/xmin"]),
        (replaced(">48.5<", ">nan<"), "b.xml", ["object 2 has the bndbox/xmin 'nan'", "finite number"]),
        (replaced(">9<", ">-inf<"), "b.xml", ["object 2 has the bndbox/ymax '-inf'", "finite number"]),
        (replaced(">9<", ">1_0<"), "b.xml", ["object 2 has the bndbox/ymax '1_0'", "finite number"]),
        (replaced(">9<", ">1e300<"), "b.xml", ["object 2 has the bndbox/ymax '1e300'", "finite number"]),
        (replaced(">25<", ">25px<"), "b.xml", ["object 1 has the bndbox/ymax '25px'", "correct that entry"]),
        (replaced("<name>dog</name>", ""), "b.xml", ["object 2 has no name"]),
        (replaced("<difficult>1", "<difficult>yes"), "b.xml", ["object 2", "difficult 'yes'", "0 or 1"]),
        (replaced("<width>40</width>", ""), "b.xml", ["has no size/width"]),
        (replaced("<height>30", "<height>0"), "b.xml", ["the size/height 0", "at least 1 pixel"]),
        (replaced("<height>30", "<height>30.5"), "b.xml", ["the size/height 30.5", "a whole number"]),
        (replaced("<height>30", "<height>tall"), "b.xml", ["the size/height 'tall'", "finite number"]),
        (renamed_to_another, "Annotations", ["a.xml and b.xml", "image a.jpg"]),
        (written("Annotations/b.xml", b""), "b.xml", ["cannot be read as XML"]),
        (written("Annotations/b.xml", b"{}"), "b.xml", ["cannot be read as XML"]),
        (written("Annotations/b.xml", b"<annotation>"), "b.xml", ["cannot be read as XML"]),
        (written("Annotations/b.xml", b"<a>\xe9</a>"), "b.xml", ["cannot be read as XML"]),
        (written("Annotations/b.xml", b'<?xml version="1.0" encoding="big5"?><a/>'), "b.xml", ["as XML"]),
        (written("Annotations/b.xml", b'<?xml version="1.0" encoding="none"?><a/>'), "b.xml", ["as XML"]),
        (written("Annotations/b.xml", BOMB), "b.xml", ["defines entities", "remove its DOCTYPE"]),
        (written("Annotations/b.xml", OUTSIDE), "b.xml", ["defines entities", "remove its DOCTYPE"]),
        (written("Annotations/b.xml", GREEDY), "b.xml", ["defines entities", "remove its DOCTYPE"]),
        (emptied, "Annotations", ["annotate no objects", "label at least one"]),
        (written("ImageSets/Main/train.txt", b"\n"), "train.txt", ["lists no images"]),
        (written("ImageSets/Main/train.txt", b"\xff"), "train.txt", ["cannot be read", "UTF-8"]),
        (written("ImageSets/Main/train.txt", b"b\nc\nb\n"), "train.txt", ["'b' twice", "remove one"]),
        (written("ImageSets/Main/train.txt", b"b.jpg\n"), "train.txt", ["'b.jpg'", "no b.jpg.xml", "suffix"]),
        (written("ImageSets/Main/train.txt", b"../a\n"), "train.txt", ["'../a'", "no ../a.xml"]),
        (lambda root: (root / "ImageSets/Main/train.txt").unlink(), "train.txt", ["cannot be read"]),
        (lambda root: (root / "Annotations").rename(root / "gone"), "Annotations", ["does not exist"]),
        (lambda root: (root / "JPEGImages").rename(root / "gone"), "JPEGImages", ["does not exist"]),
    ],
)
def test_what_is_not_as_expected_is_named(
    root: Path, spoil: Callable[[Path], object], file: str, words: list[str]
) -> None:
    spoil(root)
    with pytest.raises(DetrkitError) as caught:
        read_voc_split(root, "train")
    for word in (str(root), file, *words):
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
