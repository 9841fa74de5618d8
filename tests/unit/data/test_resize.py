import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from detrkit.cli.data import app
from detrkit.data.check.examine import examine
from detrkit.data.convert import convert
from detrkit.data.dataset import SplitDataset, describe_enlarged
from detrkit.data.formats.recognise import read_split
from detrkit.data.pace import compare_pace
from detrkit.data.resize import space, write_resized_copy
from detrkit.data.transforms import evaluation_transform, training_transform
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize

COLUMNS = (
    "image_ids",
    "widths",
    "heights",
    "offsets",
    "annotation_ids",
    "boxes",
    "labels",
    "areas",
    "crowds",
)
ORIENTATION = 0x0112

Save = Callable[[Path], object]


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture without edges, of which JPEG keeps nearly all."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write(
    root: Path, images: dict[str, tuple[int, int]], boxes: dict[str, Any], split: str = "train"
) -> Path:
    """Annotations of images of (height, width), with ``[x, y, width, height]`` for each name."""
    rows = [(number, box) for number, name in enumerate(images, start=7) for box in boxes.get(name, [])]
    content = {
        "images": [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, (name, (height, width)) in enumerate(images.items(), start=7)
        ],
        "annotations": [
            {"id": 10 + row, "image_id": number, "category_id": 3, "bbox": box, "area": box[2] * 0.7}
            for row, (number, box) in enumerate(rows)
        ],
        "categories": [{"id": 3, "name": "thing"}],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    for name in images:
        (root / split / name).parent.mkdir(parents=True, exist_ok=True)
    return root


def save_long_ago(picture: Image.Image, path: Path) -> None:
    picture.save(path)
    os.utime(path, (10**9, 10**9))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two large images and a small one, with boxes of odd fractions, some outside."""
    images = {"inner/a.jpg": (120, 161), "b.png": (151, 101), "c.png": (30, 90)}
    boxes = {
        "inner/a.jpg": [[0.1, 0.2, 33.3, 1 / 3], [-7.77, 90.01, 300.1, 29.7]],
        "b.png": [[100.7 / 3, 1e-9, 11.1, 0]],
        "c.png": [[0.3, 0.1, 0.6, 20.05]],
    }
    root = write(tmp_path / "source", images, boxes)
    for seed, (name, size) in enumerate(images.items()):
        save_long_ago(smooth(*size, seed), root / "train" / name)
    return root


def files(root: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def test_annotations_stay_to_the_last_bit(source: Path, tmp_path: Path) -> None:
    copy = write_resized_copy(source, tmp_path / "copy", 60)
    before, after = read_split(source, "train"), read_split(tmp_path / "copy", "train")
    for column in COLUMNS:
        assert getattr(after, column).tobytes() == getattr(before, column).tobytes(), column
    assert after.categories == before.categories
    given, written = (
        json.loads((root / "annotations/instances_train.json").read_text())["annotations"]
        for root in (source, tmp_path / "copy")
    )
    assert [one["area"] for one in written] == [one["area"] for one in given]
    assert after.short_side == 60
    assert copy.copies["train"].boxes.tobytes() == before.boxes.tobytes()


def test_files_have_the_size_of_the_rule_and_small_ones_are_links(source: Path, tmp_path: Path) -> None:
    copy = write_resized_copy(source, tmp_path / "copy", 60)
    folder = tmp_path / "copy/train"
    assert read_split(tmp_path / "copy", "train").file_names.tolist() == ["inner/a.jpg", "b.png.jpg", "c.png"]
    assert Image.open(folder / "inner/a.jpg").size == (80, 60)  # 161 x 120: int(60 * 161 / 120)
    assert Image.open(folder / "b.png.jpg").size == (60, 89)
    assert Image.open(folder / "b.png.jpg").format == "JPEG"
    assert (folder / "c.png").samefile(source / "train/c.png")
    assert copy.made == 3
    assert copy.resized == 2
    sizes = {path: path.stat().st_size for root in (source / "train", folder) for path in root.rglob("*.*")}
    linked = sizes[folder / "c.png"]
    assert space(copy) == (
        sum(size for path, size in sizes.items() if path.is_relative_to(source)),
        sum(size for path, size in sizes.items() if path.is_relative_to(folder)),
        linked,
    )


def edges(profile: np.ndarray) -> tuple[float, float]:
    """Where a row or column of pixels rises above the middle and falls below it, between pixels."""
    inside = np.flatnonzero(profile > 127.5)
    first, last = int(inside[0]), int(inside[-1])

    def crossing(low: int, high: int) -> float:
        share = (127.5 - profile[low]) / (profile[high] - profile[low])
        return min(low, high) + 0.5 + (share if high > low else 1 - share)

    left = crossing(first - 1, first) if first else 0.0
    right = crossing(last + 1, last) if last + 1 < len(profile) else float(len(profile))
    return left, right


@pytest.mark.parametrize("reduced_decoding", [True, False])
def test_boxes_of_views_fit_what_is_drawn(tmp_path: Path, reduced_decoding: bool) -> None:
    height, width = (
        1013,
        1377,
    )  # 300 x 407 in the copy: not quite the same factor both ways
    boxes = [[101, 57, 450, 601], [603, 650, 1109, 955], [911, 13, 1310, 507]]
    pixels = np.zeros((height, width, 3), np.uint8)
    for color, (left, top, right, bottom) in enumerate(boxes):
        pixels[top:bottom, left:right, color] = 255
    as_coco = [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]
    root = write(tmp_path / "source", {"a.png": (height, width)}, {"a.png": as_coco})
    Image.fromarray(pixels).save(root / "train/a.png")
    write_resized_copy(root, tmp_path / "copy", 300)
    settings = DataSettings(
        short_sides=(100, 140, 330),
        max_size=500,
        crop_short_sides=(200, 280),
        crop_sides=(120, 200),
        reduced_decoding=reduced_decoding,
    )
    originals = SplitDataset(read_split(root, "train"), training_transform(settings), seed=1)
    copies = SplitDataset(read_split(tmp_path / "copy", "train"), training_transform(settings), seed=1)
    checked = 0
    for epoch in range(60):
        sample = copies[epoch, 0]
        whole = originals[epoch, 0]
        assert sample.image.shape == whole.image.shape
        assert sample.labels.tolist() == whole.labels.tolist()
        # what is cut is rounded to whole pixels of the file, which are up to twice as large in the view
        torch.testing.assert_close(sample.boxes, whole.boxes, rtol=0, atol=1.5)
        assert sample.original_size == (height, width)
        for box in sample.boxes.tolist():
            left, top, right, bottom = box
            if min(right - left, bottom - top) < 12:
                continue
            middle, centre = int((top + bottom) / 2), int((left + right) / 2)
            color = int(sample.image[:, middle, centre].argmax())
            seen = sample.image[color].numpy().astype(float)
            found = [*edges(seen[middle]), *edges(seen[:, centre])]
            assert np.abs(np.array(found) - [left, right, top, bottom]).max() <= 0.5
            checked += 1
    assert checked > 60


def mean_difference(found: torch.Tensor, expected: Image.Image) -> float:
    """Of pixels of 0..255, from those that Pillow makes of the original."""
    size = (found.shape[2], found.shape[1])
    wanted = np.asarray(expected.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float64)
    return float(np.abs(found.permute(1, 2, 0).numpy() - wanted).mean())


def test_evaluation_sees_real_photos_nearly_the_same(shared: Path, tmp_path: Path) -> None:
    root = shared / "coco-mini"
    write_resized_copy(root, tmp_path / "copy", 320, chosen=("val2017",), workers=2)
    catalog = read_split(tmp_path / "copy", "val2017")
    views = SplitDataset(catalog, evaluation_transform(ImageSize(320, 1333)))
    differences = []
    for index in range(0, len(catalog), 4):
        original = Image.open(root / "val2017" / str(catalog.file_names[index]))
        differences.append(mean_difference(views[0, index].image, original))
    assert max(differences) < 5
    assert np.mean(differences) < 2.5


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    smooth(160, 120).save(path, exif=exif, quality=95, subsampling=0)


def grey_16(path: Path) -> None:
    grey = np.asarray(smooth(120, 160).convert("L"), np.uint16)
    Image.fromarray(grey * 257).save(path)


def with_alpha(path: Path) -> None:
    picture = smooth(120, 160).convert("RGBA")
    picture.putalpha(80)
    picture.save(path)


KINDS: dict[str, tuple[str, tuple[int, int], Save, Image.Image]] = {
    "grey": (
        "a.jpg",
        (120, 160),
        lambda path: smooth(120, 160).convert("L").save(path),
        smooth(120, 160).convert("L"),
    ),
    "cmyk": ("a.jpg", (120, 160), lambda path: smooth(120, 160).convert("CMYK").save(path), smooth(120, 160)),
    "alpha": ("a.png", (120, 160), with_alpha, smooth(120, 160)),
    "16 bit": ("a.png", (120, 160), grey_16, smooth(120, 160).convert("L")),
    "turned": ("a.jpg", (120, 160), turned, smooth(160, 120).transpose(Image.Transpose.ROTATE_270)),
    "as stored": ("a.jpg", (160, 120), turned, smooth(160, 120)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_looks_as_it_did(tmp_path: Path, kind: str) -> None:
    name, size, save, expected = KINDS[kind]
    root = write(tmp_path / "source", {name: size}, {})
    save(root / "train" / name)
    write_resized_copy(root, tmp_path / "copy", 60)
    views = SplitDataset(read_split(tmp_path / "copy", "train"), evaluation_transform(ImageSize(60, 1333)))
    assert mean_difference(views[0, 0].image, expected) < 1.5


class StoppedError(Exception):
    pass


def test_an_interrupted_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    images = {f"{number}.png": (60, 70) for number in range(6)}
    root = write(tmp_path / "source", images, {})
    for seed, (name, size) in enumerate(images.items()):
        save_long_ago(smooth(*size, seed), root / "train" / name)

    def stop(done: int, number: int) -> None:
        if done == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        write_resized_copy(root, tmp_path / "copy", 40, show=stop)
    assert not (tmp_path / "copy").exists()
    part = tmp_path / "copy.part/train/4.png.jpg"
    part.with_name(".4.png.jpg.part").write_bytes(b"half of a file")
    seen: list[tuple[int, int]] = []
    copy = write_resized_copy(root, tmp_path / "copy", 40, show=lambda *one: seen.append(one))
    assert copy.made == 2
    assert seen == [(4, 6), (5, 6), (6, 6)]
    write_resized_copy(root, tmp_path / "at once", 40, workers=2)
    assert files(tmp_path / "copy") == files(tmp_path / "at once")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["at once", "copy", "source"]


def test_a_complete_copy_is_left_alone_and_mended(source: Path, tmp_path: Path) -> None:
    write_resized_copy(source, tmp_path / "copy", 60)
    before = files(tmp_path / "copy")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")}
    assert write_resized_copy(source, tmp_path / "copy", 60).made == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")} == times
    (tmp_path / "copy/train/b.png.jpg").unlink()
    (tmp_path / "copy/train/c.png").unlink()
    assert write_resized_copy(source, tmp_path / "copy", 60).made == 2
    assert files(tmp_path / "copy") == before


def test_an_image_that_was_changed_is_made_again(source: Path, tmp_path: Path) -> None:
    write_resized_copy(source, tmp_path / "copy", 60)
    before = files(tmp_path / "copy")
    image = source / "train/b.png"
    smooth(151, 101, seed=9).save(image)
    os.utime(image, (1, 1))
    assert write_resized_copy(source, tmp_path / "copy", 60).made == 1
    after = files(tmp_path / "copy")
    assert [name for name in before if before[name] != after[name]] == ["train/b.png.jpg"]


def test_an_image_of_several_splits_is_resized_once(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    smooth(80, 100).save(root / "JPEGImages/a.jpg")
    smooth(20, 30).save(root / "JPEGImages/b.jpg")
    for name, width, height in (("a", 100, 80), ("b", 30, 20)):
        box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>15</xmax><ymax>16</ymax></bndbox>"
        (root / f"Annotations/{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size><object><name>cat</name>{box}</object></annotation>"
        )
    for split in ("train", "trainval"):
        (root / f"ImageSets/Main/{split}.txt").write_text("a\nb\n")
    assert write_resized_copy(root, tmp_path / "copy", 40).made == 2
    for name in ("a.jpg", "b.jpg"):
        assert (tmp_path / "copy/train" / name).samefile(tmp_path / "copy/trainval" / name)
    (tmp_path / "copy/trainval/b.jpg").unlink()
    assert write_resized_copy(root, tmp_path / "copy", 40).made == 1
    assert not list((tmp_path / "copy").rglob(".*"))
    assert read_split(tmp_path / "copy", "train").boxes.tolist() == [[2, 3, 15, 16]] * 2


def test_a_damaged_image_is_named_and_the_rest_goes_on_later(source: Path, tmp_path: Path) -> None:
    image = source / "train/b.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:400])
    for workers in (0, 2):
        with pytest.raises(DetrkitError, match=r"b\.png cannot be read: .*restore it or leave it out"):
            write_resized_copy(source, tmp_path / "copy", 60, workers=workers)
    assert not (tmp_path / "copy").exists()
    image.write_bytes(whole)
    write_resized_copy(source, tmp_path / "copy", 60)
    assert (tmp_path / "copy").is_dir()


def other_size(source: Path, copy: Path) -> None:
    write_resized_copy(source, copy, 50)


def other_quality(source: Path, copy: Path) -> None:
    write_resized_copy(source, copy, 60, quality=80)


def other_splits(source: Path, copy: Path) -> None:
    annotations = source / "annotations/instances_train.json"
    (source / "annotations/instances_val.json").write_bytes(annotations.read_bytes())
    (source / "train").rename(source / "val")
    (source / "train").symlink_to("val")
    write_resized_copy(source, copy, 60, chosen=("val",))


def other_annotations(source: Path, copy: Path) -> None:
    annotations = source / "annotations/instances_train.json"
    annotations.write_text(annotations.read_text().replace("33.3", "33.4"))
    write_resized_copy(source, copy, 60)


def no_such_split(source: Path, copy: Path) -> None:
    write_resized_copy(source, copy, 60, chosen=("train", "test"))


def broken_record(source: Path, copy: Path) -> None:
    (copy / "resized.json").write_text("{")
    write_resized_copy(source, copy, 60)


def later_version(source: Path, copy: Path) -> None:
    record = copy / "resized.json"
    record.write_text(record.read_text().replace('"version": 1', '"version": 2'))
    read_split(copy, "train")


def no_copy(source: Path, copy: Path) -> None:
    write_resized_copy(source, copy / "train", 60)


def into_itself(source: Path, copy: Path) -> None:
    write_resized_copy(source, source, 60)


def of_a_copy(source: Path, copy: Path) -> None:
    write_resized_copy(copy, copy.with_name("other"), 60)


def check(source: Path, copy: Path) -> None:
    examine(copy)


def converted(source: Path, copy: Path) -> None:
    convert(copy, copy.with_name("other"), "voc")


def original_in_the_copy(source: Path, copy: Path) -> None:
    (copy / "train/inner/a.jpg").unlink()
    (source / "train/inner/a.jpg").rename(copy / "train/inner/a.jpg")
    _ = SplitDataset(read_split(copy, "train"), evaluation_transform(ImageSize(60, 100)))[0, 0]


def no_folder(source: Path, copy: Path) -> None:
    write_resized_copy(source, source / "train/c.png/copy", 60)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (other_size, r"copy was made with --size 60, not 50: name another folder, or remove it\.$"),
        (other_quality, r"copy was made with --quality 95, not 80"),
        (other_splits, r"copy was made with --splits train, not val"),
        (other_annotations, r"copy/annotations/instances_train\.json differs from what .* train have become"),
        (no_such_split, r"source has no split test, but train: name some of these"),
        (broken_record, r"copy/resized\.json cannot be read \(.*make the copy again"),
        (later_version, r"copy/resized\.json has the version 2 .* but version 1"),
        (no_copy, r"copy/train already exists and holds no copy of this kind: name a new folder"),
        (into_itself, r"source already exists and holds no copy of this kind"),
        (of_a_copy, r"copy is a copy for training .* name their folder, which was .*source\.$"),
        (check, r"copy is a copy for training .* name their folder, which was .*source\.$"),
        (converted, r"copy is a copy for training .* name their folder, which was .*source\.$"),
        (
            original_in_the_copy,
            r"a\.jpg is 161 x 120 pixels, but .* 80 x 60 .*of 60 pixels at most: remove it",
        ),
        (no_folder, r"copy cannot be written \(.*Not a directory"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    source: Path, tmp_path: Path, fault: Callable[[Path, Path], None], words: str
) -> None:
    write_resized_copy(source, tmp_path / "copy", 60)
    before = files(tmp_path / "copy").keys()
    with pytest.raises(DetrkitError, match=words):
        fault(source, tmp_path / "copy")
    assert files(tmp_path / "copy").keys() == before


def test_names_that_would_become_one_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "source", {"a.png": (60, 60), "a.png.jpg": (60, 60)}, {})
    for name in ("a.png", "a.png.jpg"):
        smooth(60, 60).save(root / "train" / name)
    with pytest.raises(
        DetrkitError, match=r"both a\.png and a\.png\.jpg would become a\.png\.jpg: rename one"
    ):
        write_resized_copy(root, tmp_path / "copy", 40)


def test_what_is_enlarged_is_said(source: Path, tmp_path: Path) -> None:
    write_resized_copy(source, tmp_path / "copy", 60)
    catalog = read_split(tmp_path / "copy", "train")
    (sentence,) = describe_enlarged(catalog, "data.short_sides", 61)
    assert "shorter side of 60 pixels: 2; data.short_sides asks for 61" in sentence
    assert describe_enlarged(catalog, "data.short_sides", 60) == []
    assert describe_enlarged(read_split(source, "train"), "data.short_sides", 800) == []
    write_resized_copy(source, tmp_path / "large", 500)
    assert describe_enlarged(read_split(tmp_path / "large", "train"), "data.short_sides", 800) == []


def test_the_pace_is_told_for_views_of_both(source: Path, tmp_path: Path) -> None:
    copy = write_resized_copy(source, tmp_path / "copy", 60)
    pace = compare_pace(copy.originals["train"], copy.copies["train"], DataSettings(), images=2, turns=3)
    assert (pace.images, pace.turns) == (2, 3)
    assert min(pace.originals, pace.copies, pace.ratio) > 0


def run(*arguments: str) -> str:
    main = typer.Typer()
    main.add_typer(app, name="data")
    result = CliRunner().invoke(main, ["data", "cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_says_what_was_gained(source: Path, tmp_path: Path) -> None:
    arguments = (str(source), str(tmp_path / "copy"), "--size", "60", "--workers", "0")
    found = run(*arguments)
    assert "train: 3 images, 4 objects" in found
    assert "Images resized: 2 of 3." in found
    assert "times as fast (3 images of train" in found
    assert "data.short_sides asks for 800" in found
    assert "there already and complete" in run(*arguments)
    nothing = run(str(source), str(tmp_path / "large"), "--workers", "0")
    assert "No shorter side of the 3 images is larger than --size: nothing is gained." in nothing
