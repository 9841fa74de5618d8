"""The cache may change the time that a catalog takes, and nothing else."""

import errno
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import detrkit.data.formats.cache
from detrkit.catalog import Catalog
from detrkit.data.formats.coco import read_coco
from detrkit.errors import DetrkitError

NO_COLUMNS = ("source", "folder", "categories", "short_side", "shards")
COLUMNS = [field.name for field in fields(Catalog) if field.name not in NO_COLUMNS]
IMAGES, ANNOTATIONS = 2_000, 15_000


def mid_size_content() -> dict[str, list[dict[str, Any]]]:
    """Images in no order of their ids, and annotations in no order at all, with polygons as COCO has them."""
    random = np.random.default_rng(0)
    image_ids = random.permutation(IMAGES * 3)[:IMAGES].tolist()
    owners = random.integers(0, IMAGES - 5, ANNOTATIONS).tolist()
    boxes = random.uniform(1, 300, (ANNOTATIONS, 4)).round(2).tolist()
    polygons = random.uniform(0, 640, (ANNOTATIONS, 40)).round(2).tolist()
    return {
        "images": [
            {"id": image_id, "file_name": f"{image_id:06d}.jpg", "width": 640, "height": 480}
            for image_id in image_ids
        ],
        "annotations": [
            {
                "id": 2 * number,
                "image_id": image_ids[owner],
                "category_id": 3 + number % 5,
                "segmentation": [polygon],
                "area": box[2] * box[3] / 2,
                "bbox": box,
                "iscrowd": int(number % 97 == 0),
            }
            for number, (owner, box, polygon) in enumerate(zip(owners, boxes, polygons, strict=True))
        ],
        "categories": [{"id": number, "name": f"Klasse {number} ü"} for number in (7, 3, 4, 6, 5)],
    }


@pytest.fixture(scope="module")
def text() -> str:
    return json.dumps(mid_size_content())


@pytest.fixture
def annotations(tmp_path: Path, text: str, cache: Path) -> Path:
    """A json of several megabytes, whose images are looked for in the folder that it lies in."""
    path = tmp_path / "data" / "instances_some.json"
    path.parent.mkdir()
    path.write_text(text)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache that does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DETRKIT_CACHE", str(folder))
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The annotations that were parsed, in order."""
    from detrkit.data.formats import coco

    calls: list[Path] = []

    def counting(source: Path, folder: Path) -> Catalog:
        calls.append(source)
        return parse(source, folder)

    parse = coco._parse
    monkeypatch.setattr(coco, "_parse", counting)
    return calls


def read(annotations: Path) -> Catalog:
    return read_coco(annotations, annotations.parent)


def require_identical(found: Catalog, expected: Catalog) -> None:
    assert found.categories == expected.categories
    assert (found.source, found.folder) == (expected.source, expected.folder)
    for column in COLUMNS:
        one, other = getattr(found, column), getattr(expected, column)
        assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape), column
        assert one.flags.writeable == other.flags.writeable, column
        assert one.tobytes() == other.tobytes(), column


def test_a_cached_catalog_is_the_parsed_one(
    annotations: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = read(annotations), read(annotations)
    assert len(parsed) == 1
    monkeypatch.setenv("DETRKIT_CACHE", "off")
    uncached = read(annotations)
    assert len(parsed) == 2
    require_identical(first, uncached)
    require_identical(second, uncached)


def test_a_cached_catalog_holds_what_the_json_says(annotations: Path, text: str) -> None:
    read(annotations)
    catalog, content = read(annotations), json.loads(text)
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for one in content["annotations"]:
        by_image[one["image_id"]].append(one)
    ordered = [one for rows in by_image.values() for one in rows]
    assert catalog.image_ids.tolist() == list(by_image)
    assert catalog.file_names.tolist() == [image["file_name"] for image in content["images"]]
    assert np.diff(catalog.offsets).tolist() == [len(rows) for rows in by_image.values()]
    assert catalog.annotation_ids.tolist() == [one["id"] for one in ordered]
    assert catalog.areas.tolist() == [one["area"] for one in ordered]
    assert catalog.crowds.tolist() == [one["iscrowd"] == 1 for one in ordered]
    assert [catalog.categories[label].id for label in catalog.labels] == [
        one["category_id"] for one in ordered
    ]
    corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in ordered)]
    assert catalog.boxes.tolist() == corners


def test_changed_annotations_are_parsed_again(annotations: Path, text: str, parsed: list[Path]) -> None:
    read(annotations)
    before = annotations.stat()
    changed = text.replace('"width": 640', '"width": 641')
    annotations.write_text(changed)
    os.utime(annotations, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert annotations.stat().st_size == before.st_size
    assert set(read(annotations).widths) == {641}
    annotations.write_text(changed + " ")
    os.utime(annotations, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    read(annotations)
    assert len(parsed) == 3


def test_the_file_of_the_cache_does_not_multiply(annotations: Path, cache: Path, text: str) -> None:
    for spaces in range(3):
        annotations.write_text(text + " " * spaces)
        read(annotations)
    assert len(list(cache.iterdir())) == 1


def test_another_file_of_equal_size_and_time_is_another_catalog(annotations: Path, text: str) -> None:
    read(annotations)
    state, other = annotations.stat(), annotations.with_name("instances_other.json")
    other.write_text(text.replace('"width": 640', '"width": 641'))
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert set(read(other).widths) == {641}
    assert set(read(annotations).widths) == {640}


def test_annotations_that_change_while_they_are_parsed_are_not_cached(
    annotations: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detrkit.data.formats import coco

    parse = coco._parse

    def disturbed(source: Path, folder: Path) -> Catalog:
        catalog = parse(source, folder)
        os.utime(source, ns=(1, 1))
        return catalog

    monkeypatch.setattr(coco, "_parse", disturbed)
    read(annotations)
    assert not cache.exists()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(place: float) -> Any:
    def flipped(content: bytes) -> bytes:
        index = int(place * (len(content) - 1))
        return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]

    return flipped


@pytest.mark.parametrize(
    "damage",
    [cut, flip(0), flip(0.0001), flip(0.3), flip(1), lambda content: b"", lambda content: content + b"\n"],
    ids=["cut", "first byte", "categories", "inside", "last byte", "empty", "longer"],
)
def test_a_damaged_cache_is_noticed_and_made_anew(
    annotations: Path, cache: Path, parsed: list[Path], caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    expected = read(annotations)
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    require_identical(read(annotations), expected)
    assert len(parsed) == 2
    assert "is damaged" in caplog.text
    assert file.read_bytes() == sound


def test_a_cache_of_another_format_is_made_anew(
    annotations: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(annotations)
    monkeypatch.setattr(detrkit.data.formats.cache, "FORMAT", 2)
    read(annotations)
    assert len(parsed) == 2


def test_where_nothing_can_be_written_a_warning_says_so(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETRKIT_CACHE", str(tmp_path / "file"))
    assert len(read(annotations)) == IMAGES
    (record,) = [one for one in caplog.records if one.name.startswith("detrkit")]
    assert record.levelno == logging.WARNING
    assert "set DETRKIT_CACHE" in record.getMessage()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read(
    annotations: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(mode=0o500)
    assert len(read(annotations)) == IMAGES
    assert "is not cached" in caplog.text


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_disk_that_refuses_leaves_nothing_behind(
    annotations: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: int,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "replace", refuse)
    assert len(read(annotations)) == IMAGES
    assert os.strerror(reason) in caplog.text
    assert list(cache.iterdir()) == []


def _read_at_once(annotations: Path, start: Any, answers: Any) -> None:
    start.wait()
    answers.put(read(annotations).boxes.tobytes())


def test_two_processes_that_write_at_once(annotations: Path, cache: Path, parsed: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2), context.Queue()
    writers = [context.Process(target=_read_at_once, args=(annotations, start, answers)) for _ in range(2)]
    for writer in writers:
        writer.start()
    boxes = [answers.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert read(annotations).boxes.tobytes() == boxes[0] == boxes[1]
    assert parsed == []  # in this process, which found what the others had written
    assert len(list(cache.iterdir())) == 1


def test_small_annotations_never_reach_the_cache(tmp_path: Path, cache: Path, write_coco: Any) -> None:
    root = write_coco(tmp_path / "coco", val=[2, 0, 3])
    read_coco(root / "annotations" / "instances_val.json", root / "val")
    assert not cache.exists()


def test_switched_off_nothing_is_written(
    annotations: Path, tmp_path: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETRKIT_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    read(annotations), read(annotations)
    assert len(parsed) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_unless_named_the_cache_lies_with_those_of_other_programs(
    annotations: Path, tmp_path: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETRKIT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read(annotations)
    assert len(list((tmp_path / "xdg" / "detrkit").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    read(annotations)
    assert len(list((tmp_path / "home" / ".cache" / "detrkit").iterdir())) == 1
    assert len(parsed) == 2


def test_errors_stay_what_they_were(annotations: Path, cache: Path, text: str) -> None:
    read(annotations)
    with pytest.raises(DetrkitError, match=r"the images of .* are looked for in"):
        read_coco(annotations, annotations.parent / "elsewhere")
    annotations.write_text(text.replace('"category_id": 3', '"category_id": 9', 1))
    for _ in range(2):
        with pytest.raises(DetrkitError, match="annotation 0 has the category_id 9, which is none of its 5"):
            read(annotations)
    annotations.unlink()
    with pytest.raises(DetrkitError, match="the annotations are looked for in"):
        read(annotations)
