import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from detrkit.catalog import Category
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.formats.yolo import label_file, read_yolo_split, yolo_splits
from detrkit.data.transforms import unchanged
from detrkit.errors import DetrkitError

YAML = "names: [cat, zebra]\ntrain: images/train\nval: images/val\ntest:\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of 40 x 30: `b` and `c` of train, `c` without label file; `a` of val."""
    for folder in ("images/train", "images/val", "labels/train", "labels/val"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("train/b", "train/c", "val/a"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels/train/b.txt").write_text("0 0.375 0.5 0.25 0.4\n1 0.9 0.1 0.2 0.2\n")
    (tmp_path / "labels/val/a.txt").write_text("1 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def rewrite(root: Path, **entries: str) -> None:
    """Write data.yaml with some entries changed; an empty one is removed."""
    content = {"names": "[cat, zebra]", "train": "images/train", "val": "images/val"} | entries
    (root / "data.yaml").write_text("".join(f"{key}: {value}\n" for key, value in content.items() if value))


def test_boxes_are_in_pixels(root: Path) -> None:
    catalog = read_yolo_split(root, "train")
    assert catalog.file_names.tolist() == ["b.png", "c.png"]
    assert catalog.folder == root / "images/train"
    assert catalog.source == root / "data.yaml"
    assert catalog.categories == (Category(0, "cat"), Category(1, "zebra"))
    assert catalog.offsets.tolist() == [0, 2, 2]
    # (0.375 - 0.25 / 2) * 40 = 10, (0.5 - 0.4 / 2) * 30 = 9, and so on
    np.testing.assert_allclose(catalog.boxes, [[10, 9, 20, 21], [32, 0, 40, 6]], atol=1e-12)
    np.testing.assert_allclose(catalog.areas, [120, 48], atol=1e-12)
    assert catalog.labels.tolist() == [0, 1]
    assert catalog.size(1) == (30, 40)
    assert catalog.image_ids.tolist() == catalog.annotation_ids.tolist() == [1, 2]
    assert not catalog.crowds.any()
    require_images(catalog)


def test_samples_show_the_pixels_that_a_box_names(root: Path) -> None:
    picture = Image.new("RGB", (40, 30))
    ImageDraw.Draw(picture).rectangle((10, 9, 19, 20), fill="white")
    picture.save(root / "images/train/b.png")
    sample = SplitDataset(read_yolo_split(root, "train"), unchanged)[0, 0]
    left, top, right, bottom = sample.boxes[0].round().int().tolist()
    white = torch.zeros(3, 30, 40, dtype=torch.bool)
    white[:, top:bottom, left:right] = True
    assert torch.equal(sample.image == 255, white)


def test_the_splits_are_those_that_are_named(root: Path) -> None:
    assert yolo_splits(root) == ["train", "val"]
    assert yolo_splits(root / "images") == []


@pytest.mark.parametrize(
    ("names", "categories"),
    [
        ("{0: cat, 1: zebra}", [(0, "cat"), (1, "zebra")]),
        ("{7: zebra, 1: dog, 0: cat}", [(0, "cat"), (1, "dog"), (7, "zebra")]),
        ("[cat, 'yes']", [(0, "cat"), (1, "yes")]),
        ("[0, 1]", [(0, "0"), (1, "1")]),
        ("\n- 猫\n- 'with space '", [(0, "猫"), (1, "with space ")]),
    ],
)
def test_names_as_list_and_as_mapping(root: Path, names: str, categories: list[tuple[int, str]]) -> None:
    rewrite(root, names=names)
    assert [category[:2] for category in read_yolo_split(root, "train").categories] == categories


def test_labels_are_positions_of_numbers(root: Path) -> None:
    rewrite(root, names="{3: dog, 0: cat, 9: zebra}")
    (root / "labels/train/b.txt").write_text("9 0.5 0.5 0.5 0.5\n3.0 0.5 0.5 0.5 0.5\n")
    assert read_yolo_split(root, "train").labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("entry", "content"),
    [
        ("[images/train, images/val]", None),
        ("images", None),
        ("list.txt", "images/train/b.png\n./images/train/c.png\r\n\nimages/val/a.png\n"),
        ("images/list.txt", "./train/b.png\ntrain/c.png\n./val/a.png\n"),
        ("images/list.txt", "images/train/b.png\nimages/train/c.png\nimages/val/a.png"),
        ("[images/train, list.txt]", "./images/val/a.png"),
        ("../images", None),
    ],
)
def test_images_by_folders_and_lists(root: Path, entry: str, content: str | None) -> None:
    rewrite(root, train=entry)
    if content is not None:
        (root / entry.strip("[]").split(", ")[-1]).write_text(content)
    catalog = read_yolo_split(root, "train")
    assert [catalog.path(index) for index in range(3)] == [
        root / f"images/{name}.png" for name in ("train/b", "train/c", "val/a")
    ]
    assert catalog.labels.tolist() == [0, 1, 1]
    require_images(catalog)


@pytest.mark.parametrize("where", ["train", "path", "list"])
def test_a_name_that_no_file_can_have_is_refused(root: Path, where: str) -> None:
    name = 300 * "x"
    if where == "list":
        (root / "list.txt").write_text(f"images/{name}.png\n")
        rewrite(root, train="list.txt")
    else:
        rewrite(root, **{where: name})
    with pytest.raises(DetrkitError, match="xxx") as caught:
        read_yolo_split(root, "train")
    assert len(str(caught.value)) < 1000


def test_the_path_of_a_dataset(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    rewrite(root, path=str(root))
    assert read_yolo_split(root, "train").path(0) == root / "images/train/b.png"
    rewrite(root, path="images", train="train")
    assert read_yolo_split(root, "train").path(0) == root / "images/train/b.png"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "linked").symlink_to(root)
    (elsewhere / "data.yaml").write_text(f"path: linked\n{YAML}")
    assert read_yolo_split(elsewhere, "train").path(0) == elsewhere / "linked/images/train/b.png"
    rewrite(root)
    absolute = root / "images/val"
    rewrite(root, val=str(absolute))
    assert read_yolo_split(root, "val").path(0) == absolute / "a.png"


def test_a_relative_root_reads_alike(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    rewrite(root, train=f"[images/train, {root / 'images/val'}]")
    assert read_yolo_split(Path(), "train").file_names.tolist() == ["train/b.png", "train/c.png", "val/a.png"]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("a/images/train/x.y.jpg", "a/labels/train/x.y.txt"),
        ("images/a/images/x.JPG", "images/a/labels/x.txt"),
        ("a/b/x.jpg", "a/b/x.txt"),
        ("a/images", "a/images.txt"),
    ],
)
def test_where_labels_are(image: str, labels: str) -> None:
    assert label_file(Path(image), Path()) == Path(labels)


@pytest.mark.parametrize(
    ("root", "image", "labels"),
    [
        ("/y/images/ds", "pics/a.png", "pics/a.txt"),
        ("/y/images/ds", "images/a.png", "labels/a.txt"),
        ("/y/images", "a.png", "a.txt"),
        ("images/../y/images", "a.png", "a.txt"),
        ("y/images/ds", "images/images/a.png", "images/labels/a.txt"),
    ],
)
def test_labels_lie_in_the_dataset(root: str, image: str, labels: str) -> None:
    assert label_file(Path(root) / image, Path(root)) == Path(root) / labels


def test_labels_beside_images(root: Path) -> None:
    (root / "images").rename(root / "pictures")
    for file in ("train/b", "val/a"):
        (root / f"labels/{file}.txt").rename(root / f"pictures/{file}.txt")
    rewrite(root, train="pictures")
    assert read_yolo_split(root, "train").labels.tolist() == [0, 1, 1]


def test_what_is_no_image_is_passed_over(root: Path) -> None:
    (root / "images/train/readme.txt").touch()
    (root / "images/train/._b.png").write_bytes(b"\x00")
    (root / "images/train/inner").mkdir()
    Image.new("RGB", (8, 9)).save(root / "images/train/inner/D.JPG")
    catalog = read_yolo_split(root, "train")
    assert catalog.file_names.tolist() == ["b.png", "c.png", "inner/D.JPG"]
    assert catalog.size(2) == (9, 8)


def test_files_as_other_systems_write_them(root: Path) -> None:
    (root / "labels/train/b.txt").write_bytes(b"\xef\xbb\xbf0\t0.5 0.5  0.5 0.5\r\n\r\n1 .5 .5 1e-1 1.0 \r\n")
    (root / "data.yaml").write_bytes(b"\xef\xbb\xbf" + YAML.replace("\n", "\r\n").encode())
    assert read_yolo_split(root, "train").labels.tolist() == [0, 1]


def test_boxes_across_the_border_are_kept(root: Path) -> None:
    (root / "labels/train/b.txt").write_text("0 0 0.5 0.5 1.004\n")
    np.testing.assert_allclose(read_yolo_split(root, "train").boxes, [[-10, -0.06, 10, 30.06]])


def test_sizes_are_those_that_viewers_show(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(root / "images/train/b.png", exif=exif)
    catalog = read_yolo_split(root, "train")
    assert catalog.size(0) == (40, 30)
    np.testing.assert_allclose(catalog.boxes[0], [7.5, 12, 15, 28])
    assert SplitDataset(catalog, unchanged)[0, 0].image.shape == (3, 40, 30)


def labelled(*lines: str) -> Callable[[Path], object]:
    text = "\n".join(("0 .5 .5 .5 .5", *lines))
    return lambda root: (root / "labels/train/b.txt").write_text(text, "utf-8")


def entries(**changed: str) -> Callable[[Path], None]:
    return lambda root: rewrite(root, **changed)


def listing(*lines: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        rewrite(root, train="list.txt")
        (root / "list.txt").write_text("\n".join(lines))

    return spoil


def yaml_bytes(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "data.yaml").write_bytes(content)


def turned(side: int, orientation: int) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, side)).save(root / "images/train/b.png", exif=exif)

    return spoil


def without_labels(root: Path) -> None:
    os.remove(root / "labels/train/b.txt")  # noqa: PTH107


def without_images(root: Path) -> None:
    for file in (root / "images/train").iterdir():
        file.unlink()


def of_one_name(root: Path) -> None:
    Image.new("RGB", (40, 30)).save(root / "images/train/b.jpg")


@pytest.mark.parametrize(
    ("spoil", "file", "words"),
    [
        (labelled("0 0.5 0.5 0.5"), "b.txt, line 2", ["'0 0.5 0.5 0.5' has 4 columns", "5 are", "'class cx"]),
        (labelled("", "0 .1 .1 .2 .1 .2 .2"), "b.txt, line 3", ["7 columns", "polygons are not read"]),
        (labelled("0 .5 .5 .5 .5 .9"), "b.txt, line 2", ["6 columns, but 5"]),
        (labelled("cat .5 .5 .5 .5"), "b.txt, line 2", ["the word 'cat', but only numbers"]),
        (labelled("0 .5 .5 .5 0,5"), "b.txt, line 2", ["the word '0,5', but only numbers"]),
        (labelled("0_1 .5 .5 .5 .5"), "b.txt, line 2", ["the word '0_1', but only numbers"]),
        (labelled("٠ .5 .5 .5 .5"), "b.txt, line 2", ["the word '٠', but only numbers"]),
        (labelled("0 .5 .5 .5 0.٣"), "b.txt, line 2", ["the word '0.٣', but only numbers"]),
        (labelled("0 .5 .5 .5 0.2_5"), "b.txt, line 2", ["the word '0.2_5', but only numbers"]),
        (labelled("2 .5 .5 .5 .5"), "b.txt, line 2", ["the class 2", "names classes 0 to 1"]),
        (labelled("-1 .5 .5 .5 .5"), "b.txt, line 2", ["the class -1", "names classes 0 to 1"]),
        (labelled("0.5 .5 .5 .5 .5"), "b.txt, line 2", ["the class 0.5"]),
        (labelled("nan .5 .5 .5 .5"), "b.txt, line 2", ["the class nan"]),
        (labelled("0 .5 nan .5 .5"), "b.txt, line 2", ["has nan, but fractions of the image, 0 to 1"]),
        (labelled("0 20 15 10 8"), "b.txt, line 2", ["has 20, but fractions"]),
        (labelled("0 .5 .5 .5 1.02"), "b.txt, line 2", ["has 1.02, but fractions"]),
        (labelled("0 -.2 .5 .5 .5"), "b.txt, line 2", ["has -.2, but fractions"]),
        (labelled("0 .5 .5 -.001 .5"), "b.txt, line 2", ["a negative width or height"]),
        (labelled("0 " + "5" * 200), "b.txt, line 2", ["555.."]),
        (lambda root: (root / "labels/train/b.txt").write_bytes(b"\xff"), "b.txt", ["UTF-8"]),
        (without_labels, "labels/train/b.txt", ["none of the 2 images has a label file", "empty files"]),
        (without_images, "data.yaml", ["train: images/train, but no image is there", ".jpg"]),
        (of_one_name, "data.yaml", ["b.jpg", "b.png", "both have the labels", "rename one"]),
        (lambda root: (root / "images/train/b.png").write_text("x"), "b.png", ["its format is not known"]),
        (turned(30, 3), "b.png", ["EXIF orientation 3", "save it upright"]),
        (turned(40, 6), "b.png", ["EXIF orientation 6", "save it upright"]),
        (entries(names=""), "data.yaml", ["the names None", "'names: [cat, dog]'"]),
        (entries(names="cat"), "data.yaml", ["the names 'cat'", "of all classes"]),
        (entries(names="[]"), "data.yaml", ["the names []"]),
        (entries(names="[cat, yes]"), "data.yaml", ["names class 1 True", "put it into quotes"]),
        (entries(names="[cat, 1.10]"), "data.yaml", ["names class 1 1.1", "put it into quotes"]),
        (entries(names="[cat, cat]"), "data.yaml", ["two classes 'cat'", "change one"]),
        (entries(names="{a: cat, 1: zebra}"), "data.yaml", ["numbers a class 'a'", "from 0"]),
        (entries(names="{-1: cat, 1: zebra}"), "data.yaml", ["numbers a class -1", "from 0"]),
        (entries(nc="3"), "data.yaml", ["nc 3, but 2 names"]),
        (entries(path="gone"), "data.yaml", ["the path 'gone'", "gone is not a folder"]),
        (entries(path="[a]"), "data.yaml", ["the path ['a']", "a path is expected"]),
        (entries(train="", val=""), "data.yaml", ["names no images", "train, val or test"]),
        (entries(train="images/gone"), "data.yaml", ["train: images/gone", "neither a folder"]),
        (entries(train="images/train/b.png"), "data.yaml", ["neither a folder", ".txt list"]),
        (entries(train="7"), "data.yaml", ["the train 7", "a path is expected"]),
        (entries(train="[images/train, images]"), "data.yaml", ["b.png stands twice in train"]),
        (listing("images/train/b.png", "images/train/gone.png"), "list.txt, line 2", ["gone.png", "restore"]),
        (listing("images/train/b.png", "./images/train/b.png"), "data.yaml", ["b.png stands twice"]),
        (listing(""), "data.yaml", ["train: list.txt, but no image is there"]),
        (yaml_bytes(b"names: [cat"), "data.yaml", ["cannot be read as YAML", "correct that place"]),
        (yaml_bytes(b"\xff"), "data.yaml", ["cannot be read as YAML"]),
        (yaml_bytes(b""), "data.yaml", ["holds None", "entries such as"]),
        (yaml_bytes(b"- cat"), "data.yaml", ["holds ['cat']"]),
        (yaml_bytes(b"names: 2020-13-45"), "data.yaml", ["cannot be read as YAML"]),
        (yaml_bytes(b"[" * 100_000), "data.yaml", ["cannot be read as YAML"]),
        (yaml_bytes(b"!!python/object/apply:os.system ['true']"), "data.yaml", ["cannot be read as YAML"]),
    ],
)
def test_what_is_not_as_expected_is_named(
    root: Path, spoil: Callable[[Path], object], file: str, words: list[str]
) -> None:
    spoil(root)
    with pytest.raises(DetrkitError) as caught:
        read_yolo_split(root, "train")
    for word in (str(root), file, *words):
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
