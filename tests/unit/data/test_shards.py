"""Shards are read by others as by us, and hold what the files held to the bit."""

import gc
import json
import os
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from detrkit.catalog import Catalog
from detrkit.data.check.examine import examine
from detrkit.data.convert import convert
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.formats.coco import read_coco_split
from detrkit.data.formats.recognise import read_split
from detrkit.data.images import read_image
from detrkit.data.loader import evaluation_batches, training_steps
from detrkit.data.preview.given import previews
from detrkit.data.resize import write_resized_copy
from detrkit.data.shards import opened
from detrkit.data.shards.opened import OpenShards
from detrkit.data.shards.plan import Limits
from detrkit.data.shards.write import NO_LIMIT, Written, write_shards
from detrkit.data.transforms import evaluation_transform, training_transform, unchanged
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.structures import ImageSize, Sample

SMALL = DataSettings(short_sides=(64, 80), crop_short_sides=(80, 96), crop_sides=(48, 80))


def pack(source: Path, target: Path, images: int = NO_LIMIT, size: int = NO_LIMIT, **more: Any) -> Written:
    written = write_shards(source, target, lambda *_: None, limits=Limits(size, images), **more)
    return next(iter(written.values()))


@pytest.fixture(scope="module")
def packed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 40 images of `train` in 6 shards, and the 10 of `val` in 2."""
    target = tmp_path_factory.mktemp("shards") / "packed"
    pack(shapes, target, images=7)
    return target


@pytest.fixture
def broken(shapes: Path, tmp_path: Path) -> Path:
    """The 10 images of `val` in 2 shards that a test may change."""
    pack(shapes, tmp_path / "broken", images=7, chosen=("val",))
    return tmp_path / "broken"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def equal(a: Sample, b: Sample) -> bool:
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


# --- as others read them


def annotations_of(root: Path, split: str) -> dict[int, list[dict[str, Any]]]:
    tree = json.loads((root / f"annotations/instances_{split}.json").read_text())
    return {
        image["id"]: [one for one in tree["annotations"] if one["image_id"] == image["id"]]
        for image in tree["images"]
    }


def test_webdataset_reads_every_image_and_its_annotations_once(shared: Path, tmp_path: Path) -> None:
    root, target = shared / "coco-mini", tmp_path / "packed"
    pack(root, target, size=4_000_000, chosen=("val2017",))
    expected, seen = annotations_of(root, "val2017"), Counter[int]()
    for shard in tars(target / "val2017"):
        assert shard.stat().st_size <= 4_000_000
        keys = set()
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
            described = json.loads(sample["json"])
            assert sample["jpg"] == (root / "val2017" / described["file_name"]).read_bytes()
            wanted = [
                {name: one[name] for name in ("id", "image_id", "category_id", "bbox", "area", "iscrowd")}
                for one in expected[described["image_id"]]
            ]
            for one, other in zip(described["annotations"], wanted, strict=True):
                assert one.pop("bbox") == pytest.approx(other.pop("bbox"), abs=1e-9)
                assert one == other
            seen[described["image_id"]] += 1
            keys.add(sample["__key__"])
        assert all("." not in key and "/" not in key for key in keys)
    assert set(seen) == set(expected)
    assert set(seen.values()) == {1}


def test_tarfile_finds_the_image_where_the_index_says(packed: Path, shapes: Path) -> None:
    catalog = read_split(packed, "train")
    assert catalog.shards is not None
    assert len(catalog.shards.files) == 6
    for number, name in enumerate(catalog.shards.files):
        with tarfile.open(packed / "train" / name) as tar:
            members = tar.getmembers()
        images, others = members[::2], members[1::2]
        assert [Path(one.name).stem for one in images] == [Path(one.name).stem for one in others]
        assert {(one.mtime, one.uid, one.gid, one.mode, one.isreg()) for one in members} == {
            (0, 0, 0, 0o644, True)
        }
        for image in images:
            index = int(Path(image.name).stem)
            assert catalog.shards.shard[index] == number
            assert catalog.shards.offsets[index] == image.offset_data
            assert catalog.shards.lengths[index] == image.size
            assert OpenShards(catalog).read(index) == read_split(shapes, "train").path(index).read_bytes()


def test_the_catalog_is_that_of_the_source(packed: Path, shapes: Path) -> None:
    for split in ("train", "val"):
        found, expected = read_split(packed, split), read_split(shapes, split)
        assert found.categories == expected.categories
        for name in ("image_ids", "file_names", "boxes", "labels", "areas", "crowds", "annotation_ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        require_images(found)


def test_a_shard_is_a_random_part_of_its_split(packed: Path) -> None:
    catalog = read_split(packed, "train")
    assert catalog.shards is not None
    for number in range(5):
        members = np.flatnonzero(catalog.shards.shard == number)
        assert len(members) == 7
        assert members.max() - members.min() > 7


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_any_layout_is_packed(shapes: Path, tmp_path: Path, layout: Any) -> None:
    convert(shapes, tmp_path / layout, layout, chosen=("val",))
    pack(tmp_path / layout, tmp_path / "packed", images=3)
    before, after = (
        SplitDataset(read_split(root, "val"), unchanged) for root in (tmp_path / layout, tmp_path / "packed")
    )
    assert len(after) == 10
    assert all(equal(before[0, index], after[0, index]) for index in range(10))


def test_names_that_mean_something_in_a_tar_are_harmless(
    tmp_path: Path, content: Any, write: Callable[..., Any]
) -> None:
    names = ["b.json", "inner/a.b.PNG", "ü" * 100]
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    write(content)
    for old, new in zip(("b.png", "inner/a.png", "c.png"), names, strict=True):
        (tmp_path / "some" / old).rename(tmp_path / "some" / new)
    pack(tmp_path, tmp_path / "packed")
    with tarfile.open(tmp_path / "packed/some/some-000000.tar") as tar:
        assert sorted(tar.getnames()) == [
            "000000000.img",
            "000000000.json",
            "000000001.json",
            "000000001.png",
            "000000002.img",
            "000000002.json",
        ]
    before, after = (
        SplitDataset(read_split(root, "some"), unchanged) for root in (tmp_path, tmp_path / "packed")
    )
    assert all(equal(before[0, index], after[0, index]) for index in range(3))


# --- as the loader reads them


def test_samples_are_those_of_files_to_the_bit(packed: Path, shapes: Path) -> None:
    transform = training_transform(SMALL)
    files, shards = (SplitDataset(read_split(root, "train"), transform, seed=4) for root in (shapes, packed))
    for epoch in range(2):
        assert all(equal(files[epoch, index], shards[epoch, index]) for index in range(len(files)))


@pytest.mark.parametrize("group", [False, True])
def test_batches_are_those_of_files_where_all_shards_are_mixed(
    packed: Path, shapes: Path, group: bool
) -> None:
    settings: dict[str, Any] = {"seed": 1, "batch_size": 3, "accumulate": 1, "rank": 0, "world": 1}
    for at_once in (0, 6):
        files, shards = (
            training_steps(
                SplitDataset(read_split(root, "train"), training_transform(SMALL), seed=1),
                **settings,
                steps=range(9, 16),
                workers=0,
                group_size=3 if group else 0,
                shards_at_once=at_once,
            )
            for root in (shapes, packed)
        )
        for (one,), (other,) in zip(files, shards, strict=True):
            assert one.image_ids == other.image_ids
            assert torch.equal(one.images.pixels, other.images.pixels)


def test_reduced_jpegs_are_those_of_files_to_the_bit(shared: Path, tmp_path: Path) -> None:
    pack(shared / "coco-mini", tmp_path, chosen=("val2017",))
    transform = training_transform(SMALL)
    files, shards = (
        SplitDataset(read_split(root, "val2017"), transform) for root in (shared / "coco-mini", tmp_path)
    )
    assert max(files.view((0, index)).reduction for index in range(30)) > 1
    assert all(equal(files[0, index], shards[0, index]) for index in range(30))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("group", [False, True])
def test_every_image_comes_once_per_epoch(packed: Path, world: int, workers: int, group: bool) -> None:
    dataset = SplitDataset(read_split(packed, "train"), evaluation_transform(ImageSize(16, 16)))
    steps = -(-2 * 40 // (3 * world))  # 40 images in parts of 3 x world, which never end with an epoch
    loaded = [
        [
            batches[0].image_ids
            for batches in training_steps(
                dataset,
                seed=1,
                batch_size=3,
                accumulate=1,
                rank=rank,
                world=world,
                steps=range(steps),
                workers=workers,
                group_size=3 if group else 0,
                shards_at_once=2,
            )
        ]
        for rank in range(world)
    ]
    stream = [image_id for step in zip(*loaded, strict=True) for batch in step for image_id in batch]
    everything = sorted(dataset.catalog.image_ids.tolist())
    assert sorted(stream[:40]) == everything
    assert sorted(stream[40:80]) == everything
    assert stream[:40] != stream[40:80]


def test_few_shards_are_read_at_a_time(packed: Path) -> None:
    dataset = SplitDataset(read_split(packed, "train"), evaluation_transform(ImageSize(16, 16)))
    catalog = dataset.catalog
    assert catalog.shards is not None
    shard_of = dict(zip(catalog.image_ids.tolist(), catalog.shards.shard.tolist(), strict=True))
    settings: dict[str, Any] = {"seed": 1, "batch_size": 40, "accumulate": 1, "rank": 0, "world": 1}
    for at_once, most in ((1, 1), (2, 2), (3, 3), (0, 6)):
        ((batch,),) = training_steps(dataset, **settings, steps=range(1), workers=0, shards_at_once=at_once)
        order = [shard_of[image_id] for image_id in batch.image_ids]
        spans = {shard: (order.index(shard), 40 - order[::-1].index(shard)) for shard in range(6)}
        reading = [sum(first <= place < end for first, end in spans.values()) for place in range(40)]
        assert max(reading) == most


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_goes_in_the_order_of_the_catalog(packed: Path, shapes: Path, workers: int) -> None:
    transform = evaluation_transform(ImageSize(64, 64))
    files, shards = (
        list(
            evaluation_batches(
                SplitDataset(read_split(root, "val"), transform), batch_size=3, workers=workers
            )
        )
        for root in (shapes, packed)
    )
    for one, other in zip(files, shards, strict=True):
        assert one.image_ids == other.image_ids
        assert torch.equal(one.images.pixels, other.images.pixels)


def test_handles_are_few_and_are_not_pickled(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "OPEN", 2)
    let_earlier_tests_end()
    before = num_open()
    dataset = SplitDataset(read_split(packed, "train"), unchanged)
    expected = [dataset[0, index] for index in range(40)]
    assert num_open() <= before + 2
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 as torch does for its workers
    assert all(equal(copied[0, index], expected[index]) for index in range(40))
    del dataset, copied
    assert num_open() == before


def let_earlier_tests_end() -> None:
    """What they have left open closes now, such as workers that a timer is still to look after."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(60)
    gc.collect()


def num_open() -> int:
    """Open files of this process, or 0 where the system does not say."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


# --- writing


def test_the_same_again_is_the_same_bytes_and_does_nothing(
    shapes: Path, packed: Path, tmp_path: Path
) -> None:
    pack(shapes, tmp_path / "again", images=7)
    assert content_of(tmp_path / "again") == content_of(packed)
    times = {path: path.stat().st_mtime_ns for path in tars(tmp_path / "again" / "val")}
    assert pack(shapes, tmp_path / "again", images=7).written == 0
    assert content_of(tmp_path / "again") == content_of(packed)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_another_seed_is_another_order(shapes: Path, packed: Path, tmp_path: Path) -> None:
    pack(shapes, tmp_path / "other", images=7, seed=1)
    assert content_of(tmp_path / "other") != content_of(packed)


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("forgets", [False, True])
def test_an_interruption_goes_on(shapes: Path, packed: Path, tmp_path: Path, forgets: bool) -> None:
    target, calls = tmp_path / "packed", Counter[str]()

    def interrupt(split: str, done: int, total: int) -> None:
        calls[split] += 1
        assert 0 < done <= total
        if calls[split] == 25:
            raise _KilledError

    with pytest.raises(_KilledError):
        write_shards(shapes, target, interrupt, limits=Limits(NO_LIMIT, 7))
    assert len(tars(target / "train")) == 3
    with pytest.raises(DetrkitError, match="no layout that is known"):
        read_split(target, "train")  # nobody takes it for complete
    (target / "train/.train-000003.tar.part").write_bytes(b"left by a kill")
    if forgets:
        (target / "train/.begun.json").unlink()
        tars(target / "train")[1].write_bytes(bytes(tars(target / "train")[1].stat().st_size))
    kept = tars(target / "train")[0].stat().st_mtime_ns
    assert pack(shapes, target, images=7).written == (4 if forgets else 3)
    assert tars(target / "train")[0].stat().st_mtime_ns == kept
    assert content_of(target) == content_of(packed)


def test_what_was_begun_in_another_way_is_not_mixed(shapes: Path, broken: Path) -> None:
    with pytest.raises(DetrkitError, match="images per shard: 7, not 8"):
        pack(shapes, broken, images=8, chosen=("val",))
    with pytest.raises(DetrkitError, match="the seed 0, not 3"):
        pack(shapes, broken, images=7, chosen=("val",), seed=3)


def test_a_source_that_changed_is_not_mixed(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    source = write_coco(tmp_path / "source", val=[1, 2, 0])
    pack(source, tmp_path / "packed", images=2)
    image, annotations = source / "val/0002.png", source / "annotations/instances_val.json"
    image.write_bytes(image.read_bytes() + b"more")
    with pytest.raises(DetrkitError, match="image files were changed since"):
        pack(source, tmp_path / "packed", images=2)
    annotations.write_text(annotations.read_text().replace("class 1", "class one"))
    with pytest.raises(DetrkitError, match="other annotations than"):
        pack(source, tmp_path / "packed", images=2)


def test_other_files_are_left_alone(shapes: Path, tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    write_coco(tmp_path / "other", train=[1])
    before = content_of(shapes)
    with pytest.raises(DetrkitError, match="holds the dataset itself"):
        pack(shapes, shapes, chosen=("val",))
    with pytest.raises(DetrkitError, match="does not belong to shards of train"):
        pack(tmp_path / "other", shapes)
    assert content_of(shapes) == before
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text("mine")
    with pytest.raises(DetrkitError, match=r"instances_val\.json is there already"):
        pack(shapes, tmp_path, chosen=("val",))
    assert (tmp_path / "annotations/instances_val.json").read_bytes() == b"mine"
    assert not (tmp_path / "val").exists()


def test_a_small_disk_is_refused_before_anything_is_written(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DetrkitError, match=r"packing train needs 0\.00 GB, but 0\.00 GB are free"):
        pack(shapes, tmp_path)
    assert not list(tmp_path.rglob("*.tar"))


def test_a_missing_image_is_said(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    source = write_coco(tmp_path / "source", val=[1, 2])
    (source / "val/0002.png").unlink()
    with pytest.raises(DetrkitError, match=r"1 of the 2 images .* 0002\.png"):
        pack(source, tmp_path / "packed")


# --- damage


def test_a_missing_or_cut_shard_is_said_at_once_and_written_again(
    shapes: Path, packed: Path, broken: Path
) -> None:
    first, second = tars(broken / "val")
    second.unlink()
    with pytest.raises(DetrkitError, match=r"val-000001\.tar is missing, but .* bytes are expected.*shapes"):
        require_images(read_split(broken, "val"))
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DetrkitError, match=r"val-000000\.tar has .* bytes, but"):
        require_images(read_split(broken, "val"))
    assert pack(shapes, broken, images=7, chosen=("val",)).written == 2
    assert content_of(broken / "val") == content_of(packed / "val")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_cut_during_a_run_names_shard_and_image(broken: Path, workers: int) -> None:
    catalog = read_split(broken, "val")
    assert catalog.shards is not None
    index = 4
    shard = broken / "val" / catalog.shards.files[catalog.shards.shard[index]]
    dataset = SplitDataset(catalog, evaluation_transform(ImageSize(32, 32)))
    os.truncate(shard, int(catalog.shards.offsets[index]) + 20)
    with pytest.raises(DetrkitError) as caught:
        list(evaluation_batches(replace_order(dataset, index), batch_size=1, workers=workers))
    place = f"{shard}/{catalog.file_names[index]}"
    assert f"the image {place} cannot be read from its shard: the shard ends after 20 of" in str(caught.value)


def replace_order(dataset: SplitDataset, index: int) -> SplitDataset:
    """A dataset whose first image is image ``index``."""
    catalog = dataset.catalog
    assert catalog.shards is not None
    order = np.array([index, *(other for other in range(len(catalog)) if other != index)])
    shards = replace(
        catalog.shards,
        **{
            name: getattr(catalog.shards, name)[order]
            for name in ("shard", "offsets", "lengths", "checksums")
        },
    )
    columns = {
        name: getattr(catalog, name)[order] for name in ("image_ids", "file_names", "widths", "heights")
    }
    moved = replace(catalog, **columns, shards=shards)
    return SplitDataset(moved, evaluation_transform(ImageSize(32, 32)))


def test_changed_bytes_are_found(broken: Path) -> None:
    catalog = read_split(broken, "val")
    assert catalog.shards is not None
    shard = broken / "val" / catalog.shards.files[catalog.shards.shard[3]]
    content = bytearray(shard.read_bytes())
    content[int(catalog.shards.offsets[3]) + 50] ^= 1
    shard.write_bytes(content)
    require_images(catalog)
    with pytest.raises(
        DetrkitError, match=rf"{shard.name}/{catalog.file_names[3]} .* not those that were put there"
    ):
        OpenShards(catalog).read(3)


def test_a_shard_that_vanishes_is_a_sentence(broken: Path) -> None:
    catalog = read_split(broken, "val")
    for shard in tars(broken / "val"):
        shard.unlink()
    with pytest.raises(
        DetrkitError, match=rf"{catalog.file_names[0]} cannot be read from its shard: No such file"
    ):
        SplitDataset(catalog, unchanged)[0, 0]


def test_an_index_of_other_images_is_refused(packed: Path, broken: Path) -> None:
    (broken / "val/shards.json").write_bytes((packed / "train/shards.json").read_bytes())
    with pytest.raises(DetrkitError, match=r"is the index of other images than those of .*, which lists 10"):
        read_split(broken, "val")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": ["../val-000000.tar", "val-000001.tar"]}, "could lie outside the folder"),
        ({"files": ["/etc/passwd", "val-000001.tar"]}, "could lie outside the folder"),
        ({"files": ["..", "val-000001.tar"]}, "could lie outside the folder"),
        ({"files": ["x" * 256, "val-000001.tar"]}, "'x+\\.\\.\\.x+' of a shard is too long for a file"),
        ({"files": ["val-000000.tar"]}, "do not all have the 10 entries"),
        ({"lengths": [1] * 9}, "do not all have the 10 entries"),
        ({"shard": [2] * 10}, "in shard 2 of 2"),
        ({"offsets": [10**9] * 10}, "image 0 is said to lie beyond the end"),
        ({"offsets": [-1] * 10}, ">= 0"),
        ({"offsets": [2**80] * 10}, "Expected `int`|<="),
        ({"checksums": "none"}, "Expected `array`"),
        ({"format": 2}, "Invalid enum value 2"),
    ],
)
def test_a_damaged_index_is_a_sentence(broken: Path, change: dict[str, object], words: str) -> None:
    file = broken / "val/shards.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DetrkitError, match=f"the index {file} cannot be used: .*({words})") as caught:
        read_split(broken, "val")
    assert len(str(caught.value)) < 500


def test_a_cut_index_is_a_sentence_and_is_made_again(shapes: Path, packed: Path, broken: Path) -> None:
    file = broken / "val/shards.json"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DetrkitError, match=r"cannot be used: .*truncated"):
        read_coco_split(broken, "val")
    file.unlink()
    assert pack(shapes, broken, images=7, chosen=("val",)).written == 0
    assert content_of(broken / "val") == content_of(packed / "val")


# --- commands that need files


def test_what_needs_files_names_the_source(shapes: Path, packed: Path, tmp_path: Path) -> None:
    catalog: Catalog = read_split(packed, "train")
    for call in (
        lambda: convert(packed, tmp_path / "new", "yolo"),
        lambda: pack(packed, tmp_path / "new"),
        lambda: examine(packed),
        lambda: catalog.path(0),
    ):
        with pytest.raises(DetrkitError, match=f"are in shards.*{shapes}"):
            call()
    assert not (tmp_path / "new").exists()
    assert catalog.paths_of([int(catalog.image_ids[0])])[0].parent.suffix == ".tar"
    assert examine(packed, depth="annotations").findings == examine(shapes, depth="annotations").findings


# --- of a copy with smaller images


def test_shards_of_a_smaller_copy_are_read_as_it_is(shapes: Path, packed: Path, tmp_path: Path) -> None:
    write_resized_copy(shapes, tmp_path / "small", short_side=48, quality=95, chosen=("val",), workers=0)
    pack(tmp_path / "small", tmp_path / "packed")
    catalog = read_split(tmp_path / "packed", "val")
    assert catalog.short_side == 48 < catalog.heights.min()
    assert np.array_equal(catalog.boxes, read_split(shapes, "val").boxes)
    transform = training_transform(SMALL)
    from_files = SplitDataset(read_split(tmp_path / "small", "val"), transform)
    from_shards = SplitDataset(catalog, transform)
    assert all(equal(from_files[0, index], from_shards[0, index]) for index in range(len(catalog)))
    with pytest.raises(DetrkitError, match="images of another size"):
        pack(tmp_path / "small", packed)


def test_a_preview_of_shards_is_that_of_files(packed: Path, shapes: Path) -> None:
    files, shards = (next(previews(read_split(root, "val"), SMALL, 3, [4], 2)) for root in (shapes, packed))
    assert torch.equal(files.stored, shards.stored)
    assert torch.equal(files.stored, read_image(read_split(shapes, "val").path(4)))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(files.epochs, shards.epochs, strict=True))
