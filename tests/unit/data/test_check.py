"""A corpus of broken datasets: each gives the finding that is named after its fault, and none crashes."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from detrkit.catalog import Catalog
from detrkit.cli.data import app
from detrkit.data.check import faults
from detrkit.data.check.examine import count_images, examine, quick_check
from detrkit.data.check.findings import Fault, Finding
from detrkit.data.check.pictures import contents
from detrkit.data.check.repair import write_repaired
from detrkit.data.convert import convert
from detrkit.data.formats.coco import read_coco_split
from detrkit.data.formats.recognise import read_split
from detrkit.data.images import read_image
from detrkit.errors import DetrkitError

SIDE = 48
Content = dict[str, Any]
Breaking = Callable[[Content, Path], object]
"""Breaks the training split: its json, which is written afterwards, or the files of its folder."""

main = typer.Typer()
main.add_typer(app, name="data")


def noise(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def sound(root: Path, breaking: Breaking | None = None) -> Path:
    """A dataset without a fault, of four and two images with three objects each; then broken."""
    for split, first, number in (("train", 0, 4), ("val", 50, 2)):
        (root / split).mkdir(parents=True)
        content: Content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        for index in range(1, number + 1):
            noise(first + index).save(root / split / f"{index}.jpg")
            content["images"].append(
                {"id": index, "file_name": f"{index}.jpg", "width": SIDE, "height": SIDE}
            )
            for place in range(3):
                box = [4.5 * place, 3.0 + index, 20.0 + place, 9.5]
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": index,
                        "category_id": 1 + place % 2,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        if split == "train" and breaking is not None:
            breaking(content, root)
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        if not file.exists():
            file.write_text(json.dumps(content))
    return root


def annotation(**fields: object) -> Breaking:
    """Changes the first annotation."""
    return lambda content, _: content["annotations"][0].update(fields)


def image(**fields: object) -> Breaking:
    """Changes the first image's entry."""
    return lambda content, _: content["images"][0].update(fields)


def without(part: str, field: str) -> Breaking:
    return lambda content, _: content[part][0].pop(field)


def each(change: Callable[[Content], object]) -> Breaking:
    """Changes all annotations."""

    def breaking(content: Content, _: Path) -> None:
        for one in content["annotations"]:
            change(one)

    return breaking


def text(written: bytes) -> Breaking:
    """Writes something else in the place of the json."""

    def breaking(_: Content, root: Path) -> None:
        (root / "annotations").mkdir()
        (root / "annotations/instances_train.json").write_bytes(written)

    return breaking


def encoded(encoding: str) -> Breaking:
    return lambda content, root: text(json.dumps(content).encode(encoding))(content, root)


def file(picture: Image.Image, name: str = "1.jpg", **options: Any) -> Breaking:
    """Stores another picture, in the format that its name ends with, as the first image."""

    def breaking(content: Content, root: Path) -> None:
        (root / "train/1.jpg").unlink()
        picture.save(root / "train" / name, **options)
        content["images"][0]["file_name"] = name

    return breaking


def cut(name: str, share: float) -> Breaking:
    """Leaves the first part of the first image's file alone."""

    def breaking(content: Content, root: Path) -> None:
        whole = root / "train" / name
        noise(1).save(whole)
        whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        content["images"][0]["file_name"] = name
        if name != "1.jpg":
            (root / "train/1.jpg").unlink()

    return breaking


def content_of(written: bytes) -> Breaking:
    return lambda _, root: (root / "train/1.jpg").write_bytes(written)


def exif(orientation: int) -> Image.Exif:
    entry = Image.Exif()
    entry[0x0112] = orientation
    return entry


def lying(content: Content, root: Path) -> None:
    """The first image is stored lying; the annotations mean it upright, 40 wide and 48 high."""
    noise(1, (48, 40)).save(root / "train/1.jpg", exif=exif(6))
    content["images"][0].update(width=40, height=48)


def restart_ids(content: Content, _: Path) -> None:
    for number, one in enumerate(content["annotations"]):
        one["id"] = 1 + number % 3


def as_corners(content: Content, _: Path) -> None:
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x + 18, y + 25, x + 18 + width, y + 25 + height]
        one["bbox"][2:] = [min(one["bbox"][2], SIDE), min(one["bbox"][3], SIDE)]


def from_one(content: Content, _: Path) -> None:
    for one in content["annotations"]:
        one["bbox"] = [1 + one["bbox"][0] // 1, 1 + one["bbox"][1], 20, 9]


def fill(content: Content, number: int) -> None:
    for index in range(number):
        content["annotations"].append(
            {
                "id": 100 + index,
                "image_id": 1,
                "category_id": 1,
                "bbox": [index % 17, index // 17, 20.5, 9.25],
                "area": 150,
                "iscrowd": 0,
            }
        )


def second_entry(content: Content, _: Path) -> None:
    content["images"].append({**content["images"][0], "id": 9})


def copy_to(target: str) -> Breaking:
    """The first training image is stored a second time, under another name."""

    def breaking(content: Content, root: Path) -> None:
        (root / target).parent.mkdir(exist_ok=True)
        (root / target).write_bytes((root / "train/1.jpg").read_bytes())
        if target.startswith("train"):
            content["images"].append({"id": 9, "file_name": "9.jpg", "width": SIDE, "height": SIDE})

    return breaking


def leak(_: Content, root: Path) -> None:
    """The first training image is that of validation (which is written later, with this seed)."""
    noise(51).save(root / "train/1.jpg")


CORPUS: list[tuple[str, Breaking, Fault]] = [
    ("an empty file", text(b""), faults.ANNOTATIONS_REFUSED),
    ("half a json", text(b'{"images": [{"id": 1, "file_na'), faults.ANNOTATIONS_REFUSED),
    ("no text", text(bytes(range(256))), faults.ANNOTATIONS_REFUSED),
    ("a list", text(b"[]"), faults.ANNOTATIONS_REFUSED),
    ("null for a list", text(b'{"images": null}'), faults.ANNOTATIONS_REFUSED),
    ("numbers for images", text(b'{"images": [1, 2]}'), faults.ANNOTATIONS_REFUSED),
    ("nested too deeply", text(b"[" * 100_000), faults.ANNOTATIONS_REFUSED),
    ("a byte order mark", encoded("utf-8-sig"), faults.JSON_LENIENT),
    ("UTF-16", encoded("utf-16"), faults.JSON_LENIENT),
    ("NaN in the json", annotation(bbox=[1, float("nan"), 3, 4]), faults.JSON_LENIENT),
    ("no images", lambda content, _: content.pop("images"), faults.NO_IMAGES),
    ("no categories", lambda content, _: content.pop("categories"), faults.NO_CATEGORIES),
    ("no annotations", lambda content, _: content["annotations"].clear(), faults.NO_OBJECTS),
    ("an id in quotes", image(id="1"), faults.ID_TYPE),
    ("half an id", annotation(id=1.5), faults.ID_TYPE),
    ("an id of more than 64 bits", annotation(id=2**70), faults.ID_TYPE),
    ("no image_id", without("annotations", "image_id"), faults.ID_TYPE),
    ("a list as category_id", annotation(category_id=[1]), faults.ID_TYPE),
    ("two images of one id", lambda content, _: content["images"][1].update(id=1), faults.IMAGE_ID_REPEATS),
    ("two annotations of one id", annotation(id=9), faults.ANNOTATION_ID_REPEATS),
    ("ids that restart per image", restart_ids, faults.ANNOTATION_ID_RESTARTS),
    ("no annotation id", without("annotations", "id"), faults.ANNOTATION_ID_MISSING),
    (
        "two categories of one id",
        lambda content, _: content["categories"][1].update(id=1),
        faults.CATEGORY_ID_REPEATS,
    ),
    (
        "two categories of one name",
        lambda content, _: content["categories"][1].update(name="cat"),
        faults.CATEGORY_NAME_REPEATS,
    ),
    (
        "a category without a name",
        lambda content, _: content["categories"][1].pop("name"),
        faults.CATEGORY_NAME_EMPTY,
    ),
    (
        "names that differ in capitals",
        lambda content, _: content["categories"].append({"id": 3, "name": "Dog"}),
        faults.CATEGORY_NAMES_ALIKE,
    ),
    ("an unknown category", annotation(category_id=7), faults.CATEGORY_UNKNOWN),
    ("an unknown image", annotation(image_id=77), faults.IMAGE_UNKNOWN),
    (
        "category ids from 0",
        lambda content, _: [
            [one.update(id=one["id"] - 1) for one in content["categories"]],
            [one.update(category_id=one["category_id"] - 1) for one in content["annotations"]],
        ],
        faults.CATEGORY_IDS_GAPS,
    ),
    (
        "a gap in the category ids",
        lambda content, _: content["categories"].append({"id": 9, "name": "eel"}),
        faults.CATEGORY_IDS_GAPS,
    ),
    (
        "a class without examples",
        lambda content, _: content["categories"].append({"id": 3, "name": "eel"}),
        faults.CLASS_WITHOUT_EXAMPLES,
    ),
    ("a class of validation alone", each(lambda one: one.update(category_id=1)), faults.CLASS_ABSENT),
    (
        "other names in validation",
        lambda content, _: content["categories"][1].update(name="dogs"),
        faults.CATEGORIES_DIFFER,
    ),
    ("a box of text", annotation(bbox=["1", "2", "3", "4"]), faults.BOX_NOT_NUMBERS),
    ("a box of three", annotation(bbox=[1, 2, 3]), faults.BOX_NOT_NUMBERS),
    ("a box of null", annotation(bbox=[1, 2, None, 4]), faults.BOX_NOT_NUMBERS),
    ("no box", without("annotations", "bbox"), faults.BOX_NOT_NUMBERS),
    ("a box as an object", annotation(bbox={"x": 1}), faults.BOX_NOT_NUMBERS),
    ("a box with NaN", annotation(bbox=[1, float("nan"), 3, 4]), faults.BOX_NOT_FINITE),
    ("a box with infinity", annotation(bbox=[1, 2, float("inf"), 4]), faults.BOX_NOT_FINITE),
    ("a box beyond all floats", annotation(bbox=[1, 2, 10**400, 4]), faults.BOX_NOT_FINITE),
    ("a box with corners swapped", annotation(bbox=[30, 20, -10, 5], area=50), faults.BOX_NEGATIVE),
    ("a box without width", annotation(bbox=[3, 2, 0, 5], area=0), faults.BOX_WITHOUT_AREA),
    ("a box of one pixel", annotation(bbox=[3, 2, 1, 1], area=1), faults.BOX_TINY),
    ("a box reaching outside", annotation(bbox=[40, 2, 9, 9], area=81), faults.BOX_OUTSIDE),
    ("a box before the image", annotation(bbox=[-3, 2, 9, 9], area=81), faults.BOX_OUTSIDE),
    ("a box beyond the image", annotation(bbox=[60, 2, 9, 9], area=81), faults.BOX_BEYOND),
    ("corners for sizes", as_corners, faults.BOXES_WRONG_ORDER),
    (
        "fractions for pixels",
        each(lambda one: one.update(bbox=[side / SIDE for side in one["bbox"]])),
        faults.BOXES_NORMALISED,
    ),
    ("boxes from 1", from_one, faults.BOXES_ONE_BASED),
    (
        "an object twice",
        lambda content, _: content["annotations"].append({**content["annotations"][0], "id": 99}),
        faults.BOX_REPEATS,
    ),
    ("more objects than queries", lambda content, _: fill(content, 150), faults.TOO_MANY_OBJECTS),
    ("a crowd", annotation(iscrowd=1), faults.CROWDS),
    ("a crowd flag of 2", annotation(iscrowd=2), faults.CROWD_FLAG),
    ("a crowd flag of text", annotation(iscrowd="no"), faults.CROWD_FLAG),
    ("no area", without("annotations", "area"), faults.AREA_MISSING),
    ("an area of text", annotation(area="big"), faults.AREA_MISSING),
    ("an area larger than its box", annotation(area=5000), faults.AREA_WRONG),
    ("an image of no width", image(width=0), faults.SIZE_INVALID),
    ("a width of text", image(width="48"), faults.SIZE_INVALID),
    ("no height", without("images", "height"), faults.SIZE_INVALID),
    ("no file name", without("images", "file_name"), faults.FILE_NAME_MISSING),
    ("an absolute file name", image(file_name="/etc/hostname"), faults.FILE_NAME_OUTSIDE),
    ("a climbing file name", image(file_name="../val/1.jpg"), faults.FILE_NAME_OUTSIDE),
    ("a drive's file name", image(file_name="C:\\images\\1.jpg"), faults.FILE_NAME_OUTSIDE),
    ("two entries for one file", second_entry, faults.FILE_NAME_REPEATS),
    (
        "an image without objects",
        lambda content, _: [one.update(image_id=2) for one in content["annotations"]],
        faults.IMAGES_WITHOUT_OBJECTS,
    ),
    ("a missing file", lambda _, root: (root / "train/1.jpg").unlink(), faults.IMAGE_MISSING),
    ("a folder for a file", image(file_name="."), faults.IMAGE_MISSING),
    ("a file that is not listed", copy_to("train/more.jpg"), faults.IMAGE_UNLISTED),
    ("an empty image", content_of(b""), faults.IMAGE_UNREADABLE),
    ("a page for an image", content_of(b"<html>404</html>"), faults.IMAGE_UNREADABLE),
    ("a JPEG's first bytes", content_of(b"\xff\xd8\xff\xe0\x00\x10JFIF"), faults.IMAGE_UNREADABLE),
    ("half a JPEG", cut("1.jpg", 0.5), faults.IMAGE_TRUNCATED),
    ("half a PNG", cut("1.png", 0.5), faults.IMAGE_TRUNCATED),
    ("half a BMP", cut("1.bmp", 0.5), faults.IMAGE_TRUNCATED),
    ("another size than stated", image(width=40), faults.IMAGE_SIZE_DIFFERS),
    ("EXIF that turns", lying, faults.IMAGE_ROTATED),
    ("grey", file(noise(1).convert("L")), faults.IMAGE_GREY),
    ("CMYK", file(noise(1).convert("CMYK")), faults.IMAGE_CMYK),
    ("16 bits", file(Image.new("I;16", (SIDE, SIDE), 999), "1.png"), faults.IMAGE_16_BIT),
    ("floating-point values", file(Image.new("F", (SIDE, SIDE), 0.5), "1.tif"), faults.IMAGE_FLOAT),
    ("transparency", file(noise(1).convert("RGBA"), "1.png"), faults.IMAGE_TRANSPARENT),
    (
        "an animation",
        file(noise(1), "1.gif", save_all=True, append_images=[noise(2)]),
        faults.IMAGE_ANIMATED,
    ),
    ("an image twice", copy_to("train/9.jpg"), faults.IMAGE_DUPLICATE),
    ("an image of validation", leak, faults.IMAGE_LEAK),
]
IDS = [name for name, _, _ in CORPUS]


def of(findings: list[Finding], fault: Fault) -> list[Finding]:
    return [finding for finding in findings if finding.fault == fault]


def test_a_sound_dataset_has_no_findings(tmp_path: Path) -> None:
    examined = examine(sound(tmp_path), depth="pixels")
    assert examined.findings == []
    assert count_images(examined.listings) == (6, 18)


@pytest.mark.parametrize(("breaking", "fault"), [case[1:] for case in CORPUS], ids=IDS)
def test_each_fault_is_found_by_its_name(tmp_path: Path, breaking: Breaking, fault: Fault) -> None:
    found = of(examine(sound(tmp_path, breaking)).findings, fault)
    assert found, fault.name
    for finding in found:
        assert finding.count >= len(finding.examples) >= 1
        assert all(finding.examples)


def test_the_corpus_has_every_fault_of_cocos_layout() -> None:
    known = {value.name for value in vars(faults).values() if isinstance(value, Fault)}
    assert known - {fault.name for _, _, fault in CORPUS} == {"split-contains-split"}
    assert len(CORPUS) >= 40


@pytest.mark.parametrize(("breaking", "fault"), [case[1:] for case in CORPUS], ids=IDS)
def test_a_mended_copy_can_be_trained_on(tmp_path: Path, breaking: Breaking, fault: Fault) -> None:
    """What the strict readers of annotations and images accept, and the check calls free of errors."""
    write_repaired(examine(sound(tmp_path / "broken", breaking), depth="pixels"), tmp_path / "mended")
    for json_file in (tmp_path / "mended/annotations").iterdir():
        catalog = read_coco_split(tmp_path / "mended", json_file.stem.removeprefix("instances_"))
        for index in range(len(catalog)):
            read_image(catalog.path(index), catalog.size(index))
    found = examine(tmp_path / "mended", depth="pixels").findings
    lasting = {faults.NO_OBJECTS, faults.NO_CATEGORIES}
    assert [one for one in found if one.fault.severity == "error" and one.fault not in lasting] == []


def first_box(root: Path) -> list[float]:
    catalog = read_coco_split(root, "train")
    left, top, right, bottom = catalog.boxes[catalog.annotation_ids == 1][0].tolist()
    return [left, top, right - left, bottom - top]


@pytest.mark.parametrize(
    ("breaking", "expected"),
    [
        (as_corners, [18, 29, 20, 9.5]),
        (from_one, [0, 4, 20, 9]),
        (annotation(bbox=[40, 2, 9, 9]), [40, 2, 8, 9]),
        (annotation(bbox=[30, 20, -10, -5]), [20, 15, 10, 5]),
        (image(width=SIDE // 2, height=SIDE // 2), [0, 8, 40, 19]),
    ],
    ids=["corners", "from one", "outside", "negative", "resized"],
)
def test_boxes_are_mended_to_what_was_meant(
    tmp_path: Path, breaking: Breaking, expected: list[float]
) -> None:
    write_repaired(examine(sound(tmp_path / "broken", breaking)), tmp_path / "mended")
    np.testing.assert_allclose(first_box(tmp_path / "mended"), expected, atol=1e-9)


def test_fractions_become_pixels(tmp_path: Path) -> None:
    def breaking(content: Content, _: Path) -> None:
        for one in content["annotations"]:
            one["bbox"] = [side / SIDE for side in one["bbox"]]

    write_repaired(examine(sound(tmp_path / "broken", breaking)), tmp_path / "mended")
    np.testing.assert_allclose(first_box(tmp_path / "mended"), [0, 4, 20, 9.5], atol=1e-9)


def test_a_sound_dataset_is_copied_unchanged(tmp_path: Path) -> None:
    changes = write_repaired(examine(sound(tmp_path / "sound")), tmp_path / "copy")
    assert changes == []
    for split in ("train", "val"):
        before, after = read_coco_split(tmp_path / "sound", split), read_coco_split(tmp_path / "copy", split)
        for column in ("image_ids", "file_names", "offsets", "annotation_ids", "labels", "areas", "boxes"):
            np.testing.assert_array_equal(getattr(before, column), getattr(after, column))
        assert all(before.path(index).samefile(after.path(index)) for index in range(len(before)))


def test_an_image_stored_lying_is_turned_once(tmp_path: Path) -> None:
    write_repaired(examine(sound(tmp_path / "broken", lying)), tmp_path / "mended")
    with Image.open(tmp_path / "mended/train/1.jpg") as mended:
        assert mended.size == (40, 48)
        assert mended.getexif().get(0x0112, 1) == 1
        turned = np.asarray(mended, np.int64)
    with Image.open(tmp_path / "broken/train/1.jpg") as stored:
        expected = np.rot90(np.asarray(stored, np.int64), -1)  # orientation 6 is a quarter clockwise
    assert np.abs(turned - expected).mean() < 5  # stored once more as JPEG


def test_every_change_is_listed(tmp_path: Path) -> None:
    broken = sound(tmp_path / "broken", annotation(category_id=7))
    write_repaired(examine(broken), tmp_path / "mended")
    assert json.loads((tmp_path / "mended/changes.json").read_text()) == [
        {
            "split": "train",
            "subject": "annotation 1 of 1.jpg",
            "done": "left out, for its category is not known",
        }
    ]
    assert "annotation 1 of 1.jpg" in (tmp_path / "mended/changes.txt").read_text()


def test_a_copy_never_lands_among_other_files(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="not an empty folder"):
        write_repaired(examine(sound(tmp_path / "sound")), tmp_path / "sound")


def test_the_quick_check_opens_no_file(tmp_path: Path) -> None:
    root = sound(tmp_path, lambda content, _: fill(content, 30))
    catalogs = {split: read_split(root, split) for split in ("train", "val")}
    for picture in (root / "train").iterdir():
        picture.unlink()
    found = quick_check(catalogs, queries=20)
    assert [finding.fault for finding in found] == [faults.TOO_MANY_OBJECTS]
    assert found[0].examples == ("1.jpg: 33 objects for 20 queries",)


def test_every_refused_file_of_voc_is_named(tmp_path: Path) -> None:
    convert(sound(tmp_path / "coco"), tmp_path / "voc", "voc")
    broken = sorted((tmp_path / "voc/Annotations").iterdir())[:2]
    broken[0].write_text("<annotation>")
    broken[1].write_text(broken[1].read_text().replace("<xmin>", "<xmin>one"))
    found = of(examine(tmp_path / "voc").findings, faults.ANNOTATIONS_REFUSED)
    assert {one.count for one in found} == {2}
    assert all(str(file) in text for file, text in zip(broken, found[0].examples, strict=True))


def test_every_refused_line_and_image_of_yolo_is_named(tmp_path: Path) -> None:
    convert(sound(tmp_path / "coco"), tmp_path / "yolo", "yolo")
    first, second = sorted((tmp_path / "yolo/labels/train").iterdir())[:2]
    first.write_text("0 0.5 0.5 0.1 0.1\n0 7 0.5 0.1 0.1\nnine 0.5 0.5 0.1 0.1\n")
    second.write_bytes(b"\xff\xfe\xfa")
    third = sorted((tmp_path / "yolo/images/train").iterdir())[2]
    third.unlink()
    third.write_bytes(b"no image")
    (found,) = of(examine(tmp_path / "yolo").findings, faults.ANNOTATIONS_REFUSED)
    assert (found.where, found.count) == ("train", 4)
    expected = (f"{first}, line 2", f"{first}, line 3", str(second), str(third))
    assert all(start in text for start, text in zip(expected, found.examples, strict=True))


def test_files_are_equal_where_all_bytes_are(tmp_path: Path) -> None:
    written = [b"a" * 9000, b"b" + b"a" * 8999, b"a" * 9000, b"a", b"b"]
    paths = [tmp_path / str(number) for number in range(len(written))]
    for path, one in zip(paths, written, strict=True):
        path.write_bytes(one)
    found = contents([*paths, None, paths[1]])
    assert found[5] == ""
    equal = [[left == right for right in found] for left in found]
    raw = [*written, None, written[1]]
    assert equal == [[left == right for right in raw] for left in raw]


def test_large_files_of_one_length_and_end_are_not_held_in_memory(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(1 << 27)
    tracemalloc.start()
    first, second = contents(paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first == second
    assert peak < 1 << 22


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["data", "check", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("breaking", "code"),
    [(None, 0), (annotation(iscrowd=1), 0), (annotation(bbox=[40, 2, 9, 9]), 1), (image(width=40), 1)],
    ids=["sound", "note", "warning", "error"],
)
def test_exit_code_tells_of_errors_and_warnings(tmp_path: Path, breaking: Breaking | None, code: int) -> None:
    assert run(sound(tmp_path, breaking))[0] == code


def test_json_has_all_that_is_known_of_a_finding(tmp_path: Path) -> None:
    code, printed = run(sound(tmp_path, annotation(image_id=77)), "--json")
    answer = json.loads(printed)
    assert code == 1
    assert (answer["images"], answer["splits"]["val"]) == (6, {"images": 2, "annotations": 6})
    (finding,) = answer["findings"]
    assert {key: finding[key] for key in ("name", "severity", "split", "count", "examples")} == {
        "name": "image-unknown",
        "severity": "error",
        "split": "train",
        "count": 1,
        "examples": ["annotation 1"],
    }
    assert all(finding[key] for key in ("what", "effect", "fix"))


def test_the_command_writes_a_mended_copy(tmp_path: Path) -> None:
    code, printed = run(sound(tmp_path / "a", annotation(category_id=7)), "--fix", tmp_path / "b")
    assert code == 1
    assert "with 1 change, listed in" in printed
    assert run(tmp_path / "b")[0] == 0


def test_damage_inside_a_file_needs_its_pixels(tmp_path: Path) -> None:
    def breaking(content: Content, root: Path) -> None:
        whole = root / "train/1.png"
        noise(1).save(whole)
        raw = bytearray(whole.read_bytes())
        raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
        whole.write_bytes(raw)
        (root / "train/1.jpg").unlink()
        content["images"][0]["file_name"] = "1.png"

    root = sound(tmp_path, breaking)
    assert examine(root).findings == []
    assert [one.fault for one in examine(root, depth="pixels").findings] == [faults.IMAGE_UNREADABLE]


def test_blood_cells_have_two_boxes_of_one_pixel(shared: Path) -> None:
    examined = examine(shared / "bccd")
    xml = [file.read_text() for file in (shared / "bccd/Annotations").glob("*.xml")]
    counted = len(xml), sum(one.count("<object>") for one in xml)
    assert count_images(examined.listings) == counted == (364, 4888)
    tiny = {finding.where: finding.examples for finding in of(examined.findings, faults.BOX_TINY)}
    assert "BloodImage_00343" in tiny["train"][0]
    assert "BloodImage_00338" in tiny["val"][0]
    rest = {one.fault for one in examined.findings} - {faults.BOX_TINY}
    assert rest == {faults.SPLIT_CONTAINS}


def test_coco_is_clean_but_for_what_is_there(shared: Path) -> None:
    root = shared / "coco-mini"
    found = examine(root).findings
    assert {one.fault.name: one.fault.severity for one in found if one.fault.severity != "note"} == {
        "class-absent-from-split": "warning"
    }
    for split in ("train2017", "val2017"):
        content = json.loads((root / f"annotations/instances_{split}.json").read_text())
        objects = [one for one in content["annotations"] if not one["iscrowd"]]
        counted = {
            "crowds": len(content["annotations"]) - len(objects),
            "images-without-objects": len(content["images"]) - len({one["image_id"] for one in objects}),
        }
        assert counted == {
            one.fault.name: one.count for one in found if one.where == split and one.fault.name in counted
        }
    grey = [
        file.name for split in ("train2017", "val2017") for file in (root / split).iterdir() if _is_grey(file)
    ]
    assert [one.examples[0].split(":")[0] for one in of(found, faults.IMAGE_GREY)] == grey


def _is_grey(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.mode == "L"


def test_a_catalog_is_checked_as_its_json_is(shared: Path) -> None:
    root = shared / "coco-mini"
    catalogs: dict[str, Catalog] = {split: read_split(root, split) for split in ("train2017", "val2017")}
    assert quick_check(catalogs, 100) == examine(root, depth="annotations").findings
