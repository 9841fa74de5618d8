import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import detrkit.data.write
from detrkit.catalog import Catalog
from detrkit.cli.data import app
from detrkit.data.convert import convert
from detrkit.data.dataset import require_images
from detrkit.data.formats.recognise import Layout, read_split, recognise, splits
from detrkit.errors import DetrkitError

LAYOUTS: tuple[Layout, ...] = ("coco", "voc", "yolo")


def names(catalog: Catalog) -> list[str]:
    return [catalog.categories[label].name for label in catalog.labels]


# One dataset written by hand in each layout: two images, three objects, ids as a layout without them counts.


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, size in (("a.png", (40, 30)), ("b.png", (20, 50))):
        Image.effect_noise(size, 90).save(folder / name)


def coco(root: Path) -> None:
    write_images(root / "train")
    (root / "annotations").mkdir()
    boxes = [(1, 2, [10, 5, 10, 20]), (1, 1, [0, 0, 40, 30]), (2, 1, [19, 49, 1, 1])]
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.png", "width": 20, "height": 50},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": kind,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, kind, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "猫 & <dog>"}],
    }
    (root / "annotations/instances_train.json").write_text(json.dumps(content))


def voc(root: Path) -> None:
    write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, (width, height), objects in (
        ("a", (40, 30), [("猫 &amp; &lt;dog>", 11, 6, 20, 25), ("cat", 1, 1, 40, 30)]),
        ("b", (20, 50), [("cat", 20, 50, 20, 50)]),
    ):
        text = f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        for kind, *edges in objects:
            tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
            box = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in tags)
            text += f"<object><name>{kind}</name><bndbox>{box}</bndbox></object>"
        (root / f"Annotations/{name}.xml").write_text(f"{text}</annotation>", encoding="utf-8")
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")


def yolo(root: Path) -> None:
    write_images(root / "images/train")
    (root / "labels/train").mkdir(parents=True)
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, 猫 & <dog>]\n", encoding="utf-8")
    (root / "labels/train/a.txt").write_text("1 .375 .5 .25 .6666666666666666\n0 .5 .5 1 1\n")
    (root / "labels/train/b.txt").write_text("0 .975 .99 .05 .02\n")


WRITERS: dict[str, Callable[[Path], None]] = {"coco": coco, "voc": voc, "yolo": yolo}


def require_equal(found: Catalog, expected: Catalog) -> None:
    """All columns agree, but YOLO's boxes are rounded fractions, and category ids those of the layout."""
    assert [category.name for category in found.categories] == [one.name for one in expected.categories]
    for column in ("image_ids", "file_names", "widths", "heights", "offsets", "annotation_ids", "labels"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    np.testing.assert_array_equal(found.crowds, expected.crowds)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-9)
    np.testing.assert_allclose(found.areas, expected.areas, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_dataset_is_one_catalog_whatever_its_layout(tmp_path: Path, layout: Layout) -> None:
    coco(tmp_path / "coco")
    if layout != "coco":
        WRITERS[layout](tmp_path / layout)
    assert recognise(tmp_path / layout) == layout
    expected = read_split(tmp_path / "coco", "train")
    assert expected.boxes.tolist() == [[10, 5, 20, 25], [0, 0, 40, 30], [19, 49, 20, 50]]
    require_equal(read_split(tmp_path / layout, "train"), expected)


@pytest.mark.parametrize("given_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_becomes_every_other(tmp_path: Path, given_layout: Layout, layout: Layout) -> None:
    WRITERS[given_layout](tmp_path / "source")
    done = convert(tmp_path / "source", tmp_path / "new", layout)
    assert recognise(tmp_path / "new") == layout
    written = read_split(tmp_path / "new", "train")
    require_images(written)
    require_equal(written, read_split(tmp_path / "source", "train"))
    assert done.changes == ([] if layout == "coco" else ["ids of images, objects and classes: counted anew"])
    for index in range(2):
        before = read_split(tmp_path / "source", "train").path(index)
        assert written.path(index).read_bytes() == before.read_bytes()


# Any dataset in VOC: sizes, boxes of whole pixels inside, and names of classes that XML can hold.
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
class_names = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=12
).filter(lambda name: name == name.strip())
file_names = st.text(
    st.characters(categories=("L", "N", "S", "M"), include_characters="-. "), min_size=1, max_size=12
).filter(lambda name: name == name.strip(" .") and len(name.encode()) < 200)


@st.composite
def datasets(draw: st.DrawFn) -> dict[str, Any]:
    kinds = draw(st.lists(class_names, min_size=1, max_size=4, unique=True))
    images = {}
    for name in draw(st.lists(file_names, min_size=1, max_size=3, unique_by=str.casefold)):
        width, height = draw(sizes)
        objects = []
        for _ in range(draw(st.integers(0, 3))):
            left, right = sorted(draw(st.tuples(st.integers(1, width), st.integers(1, width))))
            top, bottom = sorted(draw(st.tuples(st.integers(1, height), st.integers(1, height))))
            objects.append((draw(st.sampled_from(kinds)), (left, top, right, bottom)))
        images[name] = ((width, height), objects)
    first = next(iter(images))
    images[first][1].append((kinds[0], (1, 1, 1, 1)))  # VOC knows classes by their objects
    return images


def write_voc(root: Path, images: dict[str, Any]) -> None:
    from xml.sax.saxutils import escape

    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, ((width, height), objects) in images.items():
        Image.new("1", (width, height)).save(root / f"JPEGImages/{name}.png")
        text = f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        for kind, edges in objects:
            tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
            box = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in tags)
            text += f"<object><name>{escape(kind)}</name><bndbox>{box}</bndbox></object>"
        (root / f"Annotations/{name}.xml").write_text(f"{text}</annotation>", encoding="utf-8")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(images) + "\n", encoding="utf-8")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets())
def test_voc_to_coco_to_yolo_to_coco_keeps_boxes_and_labels(
    tmp_path_factory: pytest.TempPathFactory, images: dict[str, Any]
) -> None:
    root = tmp_path_factory.mktemp("chain")
    write_voc(root / "voc", images)
    convert(root / "voc", root / "coco", "coco")
    convert(root / "coco", root / "yolo", "yolo")
    convert(root / "yolo", root / "again", "coco")
    content = json.loads((root / "again/annotations/instances_train.json").read_text("utf-8"))
    kinds = {one["id"]: one["name"] for one in content["categories"]}
    found = {one["file_name"]: ((one["width"], one["height"]), []) for one in content["images"]}
    file_of = {one["id"]: one["file_name"] for one in content["images"]}
    for one in content["annotations"]:
        found[file_of[one["image_id"]]][1].append((kinds[one["category_id"]], one["bbox"]))
    assert found.keys() == {f"{name}.png" for name in images}
    for name, (size, objects) in images.items():
        found_size, found_objects = found[f"{name}.png"]
        assert found_size == size
        assert [kind for kind, _ in found_objects] == [kind for kind, _ in objects]
        for (_, (x, y, width, height)), (_, (left, top, right, bottom)) in zip(
            found_objects, objects, strict=True
        ):
            corners = np.array([x, y, x + width, y + height])
            assert np.abs(corners - (left - 1, top - 1, right, bottom)).max() < 0.5


edges = st.tuples(st.floats(0, 60), st.floats(0, 60)).map(sorted).filter(lambda one: one[1] - one[0] > 1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(edges, edges), min_size=1, max_size=5))
def test_voc_takes_the_nearest_whole_pixels_and_at_least_one(
    tmp_path_factory: pytest.TempPathFactory, given_boxes: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("voc")
    boxes = np.array([[x[0], y[0], x[1], y[1]] for x, y in given_boxes])
    annotations = [
        {"image_id": 1, "category_id": 1, "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]}
        for box in boxes
    ]
    coco_file(root / "coco", annotations)
    convert(root / "coco", root / "voc", "voc")
    found = read_split(root / "voc", "train").boxes
    assert ((found[:, 2:] - found[:, :2]) >= 1).all()
    narrow = (np.rint(boxes[:, 2:]) <= np.rint(boxes[:, :2])).any(axis=1)
    assert np.abs(found - boxes)[~narrow].max(initial=0) <= 0.5 + 1e-9
    assert np.abs(found - boxes).max() <= 1


def coco_file(root: Path, annotations: list[dict[str, Any]], **changed: object) -> Path:
    """A split ``train`` with one image of 60 x 60, class 1 unless said otherwise."""
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    Image.new("RGB", (60, 60)).save(root / "train/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 60}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    } | changed
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root


HARD = [
    {"id": 5, "image_id": 1, "category_id": 18, "bbox": [10.25, 10, 20, 20], "area": 99, "iscrowd": 0},
    {"id": 6, "image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 60], "area": 3600, "iscrowd": 1},
    {"id": 7, "image_id": 1, "category_id": 1, "bbox": [50, 50, 20, 20], "area": 400, "iscrowd": 0},
    {"id": 8, "image_id": 1, "category_id": 1, "bbox": [70, 70, 5, 5], "area": 25, "iscrowd": 0},
    {"id": 9, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 6], "area": 0, "iscrowd": 0},
    {"id": 11, "image_id": 1, "category_id": 1, "bbox": [5.2, 5, 0.2, 6], "area": 1.2, "iscrowd": 0},
]
SPARSE = [{"id": 1, "name": "zebra"}, {"id": 7, "name": "unused"}, {"id": 18, "name": "cat"}]


def test_what_yolo_cannot_say_is_listed(tmp_path: Path) -> None:
    done = convert(coco_file(tmp_path / "coco", HARD, categories=SPARSE), tmp_path / "yolo", "yolo")
    assert done.changes == [
        "crowds (in VOC: difficult objects), left out: 1",
        "boxes outside their image or with corners in the wrong order, left out: 1",
        "boxes cut at the border of their image: 1",
        "areas other than their box's, left out: 1",
        "ids of images, objects and classes: counted anew",
    ]
    written = read_split(tmp_path / "yolo", "train")
    expected = [[10.25, 10, 30.25, 30], [50, 50, 60, 60], [5, 5, 5, 11], [5.2, 5, 5.4, 11]]
    np.testing.assert_allclose(written.boxes, expected, atol=1e-9)
    assert names(written) == ["cat", "zebra", "zebra", "zebra"]
    assert [category.name for category in written.categories] == ["zebra", "unused", "cat"]


def test_what_voc_cannot_say_is_listed(tmp_path: Path) -> None:
    done = convert(coco_file(tmp_path / "coco", HARD, categories=SPARSE), tmp_path / "voc", "voc")
    assert done.changes == [
        "boxes without area, left out: 1",
        "boxes rounded to whole pixels: 2",
        "boxes narrower than a pixel, widened to one: 1",
        "areas other than their box's, left out: 1",
        "classes without objects, left out: 1",
        "ids of images, objects and classes: counted anew",
    ]
    written = read_split(tmp_path / "voc", "train")
    expected = [[10, 10, 30, 30], [0, 0, 60, 60], [50, 50, 70, 70], [70, 70, 75, 75], [5, 5, 6, 11]]
    assert written.boxes.tolist() == expected
    assert written.crowds.tolist() == [False, True, False, False, False]
    assert names(written) == ["cat", "zebra", "zebra", "zebra", "zebra"]


def test_crowds_and_difficult_objects_are_the_same(tmp_path: Path) -> None:
    voc(tmp_path / "voc")
    file = tmp_path / "voc/Annotations/b.xml"
    file.write_text(file.read_text().replace("<name>", "<difficult>1</difficult><name>"))
    convert(tmp_path / "voc", tmp_path / "coco", "coco")
    content = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert [one["iscrowd"] for one in content["annotations"]] == [0, 0, 1]


def counted(root: Path, split: str) -> tuple[set[str], Counter[str]]:
    catalog = read_split(root, split)
    require_images(catalog)
    return set(catalog.file_names.tolist()), Counter(names(catalog))


def test_bccd_goes_around_without_loss(shared: Path, tmp_path: Path) -> None:
    texts = {file.stem: file.read_text() for file in (shared / "bccd/Annotations").glob("*.xml")}
    convert(shared / "bccd", tmp_path / "coco", "coco")
    convert(tmp_path / "coco", tmp_path / "yolo", "yolo")
    convert(tmp_path / "yolo", tmp_path / "voc", "voc")
    assert splits(tmp_path / "coco") == ["test", "train", "trainval", "val"]
    for layout in LAYOUTS:
        total: Counter[str] = Counter()
        for split in ("train", "val", "test"):
            listed = (shared / f"bccd/ImageSets/Main/{split}.txt").read_text().split()
            images, kinds = counted(tmp_path / layout, split)
            assert images == {f"{name}.jpg" for name in listed}
            assert kinds == Counter(
                kind for name in listed for kind in re.findall("<name>(.*)</name>", texts[name])
            )
            total += Counter(images=len(images), objects=kinds.total())
        assert total == {"images": 364, "objects": 4888}
    for name, text in texts.items():
        edges = "<(xmin|ymin|xmax|ymax)>(.*)</"
        again = (tmp_path / "voc/Annotations" / f"{name}.xml").read_text()
        assert re.findall(edges, again) == re.findall(edges, text)


def test_images_are_links_where_the_file_system_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco(tmp_path / "coco")
    assert convert(tmp_path / "coco", tmp_path / "linked", "yolo").placed == {"linked": 2}
    source = tmp_path / "coco/train/a.png"
    assert (tmp_path / "linked/images/train/a.png").samefile(source)

    def refuse(*_: object) -> None:
        raise OSError("the file system has no links")

    monkeypatch.setattr("os.link", refuse)
    assert convert(tmp_path / "coco", tmp_path / "copied", "yolo").placed == {"copied": 2}
    copy = tmp_path / "copied/images/train/a.png"
    assert not copy.samefile(source)
    assert copy.read_bytes() == source.read_bytes()


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    source = tmp_path / "coco/train/a.png"
    source.rename(tmp_path / "elsewhere.png")
    source.symlink_to("../../elsewhere.png")
    convert(tmp_path / "coco", tmp_path / "yolo", "yolo")
    written = tmp_path / "yolo/images/train/a.png"
    assert not written.is_symlink()
    assert written.samefile(tmp_path / "elsewhere.png")


def test_splits_are_chosen_and_named(tmp_path: Path) -> None:
    root = coco_file(tmp_path / "coco", [])
    for split in ("train2017", "val2017", "extra"):
        (root / f"annotations/instances_{split}.json").write_bytes(
            (root / "annotations/instances_train.json").read_bytes()
        )
        (root / split).symlink_to("train")
    done = convert(root, tmp_path / "yolo", "yolo", chosen=("train2017", "val2017"))
    assert set(done.catalogs) == set(splits(tmp_path / "yolo")) == {"train", "val"}
    assert "split train2017, renamed: train" in done.changes
    for chosen, words in (
        ((), "splits train, train2017, val2017, but YOLO has one of each"),
        (("extra", "train"), "extra, train, but YOLO's are train, val, test"),
        (("gone",), "no split gone, but extra, train"),
    ):
        with pytest.raises(DetrkitError, match=words):
            convert(root, tmp_path / "no", "yolo", chosen=chosen)


def test_images_of_one_name_become_two(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    root = write_coco(tmp_path / "coco", train=[1, 2], val=[1])
    (root / "val/0001.png").write_bytes((root / "train/0002.png").read_bytes())
    done = convert(root, tmp_path / "voc", "voc")
    assert "images with another name: 1" in done.changes
    written = read_split(tmp_path / "voc", "val")
    assert written.file_names.tolist() == ["val_0001.png"]
    assert written.path(0).read_bytes() == (root / "val/0001.png").read_bytes()
    assert len(read_split(tmp_path / "voc", "train")) == 2


def test_names_that_a_layout_cannot_hold_are_changed(tmp_path: Path) -> None:
    root = coco_file(tmp_path / "coco", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}])
    stated = ["scan 1.png", ".hidden.png", "in/a.png", "in/a.PNG", "\ufeffmark.png"]
    (root / "train/in").mkdir()
    for name in stated:
        Image.new("RGB", (60, 60)).save(root / "train" / name)
    file = root / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["images"] = [
        {"id": number, "file_name": name, "width": 60, "height": 60}
        for number, name in enumerate(stated, start=1)
    ]
    file.write_text(json.dumps(content))
    convert(root, tmp_path / "voc", "voc")
    voc_names = read_split(tmp_path / "voc", "train").file_names.tolist()
    assert voc_names == ["scan_1.png", "_hidden.png", "in_a.png", "train_in_a.PNG", "_mark.png"]
    convert(root, tmp_path / "yolo", "yolo")
    assert set(read_split(tmp_path / "yolo", "train").file_names.tolist()) == {
        "scan 1.png",
        "_hidden.png",
        "in/a.png",
        "in/train_a.PNG",
        "\ufeffmark.png",
    }


@pytest.mark.parametrize(("suffix", "orientation"), [("jpg", 6), ("jpg", 3), ("png", 8), ("webp", 6)])
def test_an_image_that_yolo_would_turn_is_saved_as_it_is_meant(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    root = coco_file(
        tmp_path / "coco",
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        images=[{"id": 1, "file_name": f"b.{suffix}", "width": 40, "height": 30}],
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.effect_noise((40, 30), 60).convert("RGB")
    picture.save(root / f"train/b.{suffix}", exif=exif)
    done = convert(root, tmp_path / "yolo", "yolo")
    assert done.placed == {"saved anew": 1}
    assert "images saved anew without their EXIF orientation, which their boxes ignore: 1" in done.changes
    written = read_split(tmp_path / "yolo", "train")
    np.testing.assert_allclose(written.boxes, [[1, 2, 4, 6]], atol=1e-9)
    assert written.size(0) == (30, 40)
    with Image.open(root / f"train/b.{suffix}") as before, Image.open(written.path(0)) as after:
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
        assert 0x0112 not in after.getexif()


@pytest.mark.parametrize("occupied", ["file", "folder"])
def test_a_target_that_holds_something_is_refused(tmp_path: Path, occupied: str) -> None:
    coco(tmp_path / "coco")
    target = tmp_path / "target"
    if occupied == "file":
        target.touch()
    else:
        (target / "inner").mkdir(parents=True)
    with pytest.raises(DetrkitError, match="target already exists and is not empty: name a new folder"):
        convert(tmp_path / "coco", target, "yolo")
    assert target.exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    (tmp_path / "deep/target").mkdir(parents=True)
    convert(tmp_path / "coco", tmp_path / "deep/target", "yolo")
    assert len(read_split(tmp_path / "deep/target", "train")) == 2


@pytest.mark.parametrize("fault", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, fault: BaseException
) -> None:
    coco(tmp_path / "coco")
    seen = []

    def fail(catalogs: object, layout: object, root: Path) -> None:
        seen.append(len(list(root.rglob("*.png"))))
        raise fault

    monkeypatch.setattr(detrkit.data.write, "_write", fail)
    with pytest.raises(DetrkitError if isinstance(fault, OSError) else KeyboardInterrupt):
        convert(tmp_path / "coco", tmp_path / "target", layout)
    assert seen == [2]
    assert [one.name for one in tmp_path.iterdir()] == ["coco"]


@pytest.mark.parametrize(
    ("changed", "layout", "words"),
    [
        ({"categories": [{"id": 1, "name": " cat"}]}, "voc", ["' cat'", "without spaces at its ends"]),
        ({"categories": [{"id": 1, "name": "a\x07b"}]}, "voc", ["'a\\x07b'", "control characters"]),
        ({"categories": [{"id": 1, "name": ""}]}, "voc", ["the name ''", "rename the class"]),
        ({"annotations": []}, "voc", ["no split has an object", "choose splits"]),
        (
            {"images": [{"id": 1, "file_name": "a.raw", "width": 60, "height": 60}]},
            "yolo",
            ["train/a.raw would be no image", ".jpg"],
        ),
        (
            {"images": [{"id": 1, "file_name": "a.png", "width": 61, "height": 60}]},
            "yolo",
            ["train/a.png is 60 x 60 pixels", "states 61 x 60"],
        ),
        (
            {"images": [{"id": 1, "file_name": "gone.png", "width": 60, "height": 60}]},
            "yolo",
            ["1 of the 1 images", "gone.png"],
        ),
    ],
)
def test_what_a_layout_cannot_hold_at_all_is_named(
    tmp_path: Path, changed: dict[str, object], layout: Layout, words: list[str]
) -> None:
    annotations = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    root = coco_file(tmp_path / "coco", **({"annotations": annotations} | changed))
    Image.new("RGB", (60, 60)).save(root / "train/a.raw", "PNG")
    with pytest.raises(DetrkitError) as caught:
        convert(root, tmp_path / "target", layout)
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")
    assert not (tmp_path / "target").exists()


def test_splits_of_different_classes_are_refused(tmp_path: Path) -> None:
    root = coco_file(tmp_path / "coco", [])
    other = json.loads((root / "annotations/instances_train.json").read_text())
    other["categories"] = [{"id": 1, "name": "dog"}]
    (root / "annotations/instances_val.json").write_text(json.dumps(other))
    (root / "val").symlink_to("train")
    with pytest.raises(DetrkitError, match=r"instances_train.json and .*instances_val.json have different"):
        convert(root, tmp_path / "yolo", "yolo")


def test_a_folder_that_is_missing_or_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="gone is not a folder"):
        convert(tmp_path / "gone", tmp_path / "target", "coco", source_layout="voc")
    coco(tmp_path / "coco")
    with pytest.raises(DetrkitError, match="no split in the layout voc: leave out --from"):
        convert(tmp_path / "coco", tmp_path / "target", "yolo", source_layout="voc")


def test_the_command(tmp_path: Path) -> None:
    main = typer.Typer()
    main.add_typer(app, name="data")
    coco_file(tmp_path / "coco", HARD, categories=SPARSE)
    arguments = ["data", "convert", str(tmp_path / "coco"), str(tmp_path / "new"), "--from", "coco", "--to"]
    result = CliRunner().invoke(main, [*arguments, "yolo", "--splits", "train,"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:3] == [
        "train: 1 images, 4 objects",
        "Images linked: 1.",
        "Changed: crowds (in VOC: difficult objects), left out: 1",
    ]
    assert recognise(tmp_path / "new") == "yolo"
