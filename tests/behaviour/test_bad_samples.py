"""Images that go bad after a run has begun: it stops at them or skips them, as settings say, and tells."""

import json
import mmap
import os
import shutil
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import detrkit
from detrkit.data.check.pictures import look
from detrkit.data.dataset import SplitDataset
from detrkit.data.formats.recognise import read_split
from detrkit.data.headers import read_header
from detrkit.data.loader import evaluation_batches, training_steps
from detrkit.data.transforms import evaluation_transform, training_transform
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.structures import Batch, ImageSize
from detrkit.training.events import Event, Finished, Skipped, Started, Stepped, Validated

COUNTS = [2, 1, 3, 0, 2, 1]
"""Objects of the images to train on, whose files are 0001.png to 0006.png."""
SKIPPING = {"data.max_skipped_images": 2}
SMALL = DataSettings(short_sides=(32,), max_size=32)
MIB = 1 << 20


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def replace_by_zeros(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 10_000_000_000)


def replace_by_endless_webp(path: Path) -> None:
    """The first bytes of a WebP file, which Pillow reads as a whole, and a gigabyte of zeros."""
    path.write_bytes(b"RIFF" + struct.pack("<I", 1_000_000_000) + b"WEBPVP8 ")
    os.truncate(path, 1_000_000_000)


def replace_by_bomb(path: Path) -> None:
    """A PNG of 13,000 x 13,000 pixels in 165 KB, just below where Pillow itself refuses."""
    side = 13_000
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes((side + 1) * side))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "deleted": Path.unlink,
    "10 GB of zeros": replace_by_zeros,
    "a gigabyte of WebP": replace_by_endless_webp,
    "a decompression bomb": replace_by_bomb,
    "a pipe that never says anything": replace_by_pipe,
}


@pytest.fixture
def data(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path / "data", train=COUNTS, val=[1, 2, 1])


@pytest.fixture
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    """Of a run in which every image is seen once or twice, and always the same."""
    shown = {"data.short_sides": [32], "data.max_size": 32, "data.flip": 0.0}
    length = {"train.max_steps": 4, "data.batch_size": 2, "train.validate_every": 9.0}
    return small_detr | shown | length | {"train.trackers": []}


def begin(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> Iterable[Event]:
    return detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=resume)


def train(
    data: Path, out: Path, settings: dict[str, object], *bad: Path, resume: bool = False
) -> list[Event]:
    """The events of a run, after whose beginning these images are truncated."""
    events = []
    for event in begin(data, out, settings, resume):
        if isinstance(event, Started):
            for path in bad:
                truncate(path)
        events.append(event)
    return events


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Stepped)]


def skipped(events: list[Event]) -> list[Skipped]:
    return [event for event in events if isinstance(event, Skipped)]


def log(out: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most bytes that this process has held since the last reset."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


@pytest.fixture
def dataset(data: Path) -> SplitDataset:
    return SplitDataset(read_split(data, "train"), training_transform(SMALL), seed=0)


ORDER: dict[str, Any] = {"seed": 0, "accumulate": 1, "workers": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells how much memory was held at most")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_is_noticed_at_once_and_never_held_in_memory(dataset: SplitDataset, fault: str) -> None:
    bad = dataset.catalog.place(2)
    list(training_steps(dataset, **ORDER, batch_size=6, steps=range(1), rank=0, world=1))
    FAULTS[fault](bad)
    reset_peak_memory()
    before = peak_memory()
    with pytest.raises(DetrkitError, match=str(bad)):
        dataset[0, 2]
    (batch,), *_ = training_steps(
        dataset, **ORDER, batch_size=6, steps=range(1), rank=0, world=1, max_skipped=1
    )
    assert peak_memory() - before < 50 * MIB
    assert [one.image_id for one in batch.unread] == [3]
    assert str(bad) in batch.unread[0].reason
    assert sorted(batch.image_ids) == [1, 2, 4, 4, 5, 6]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells how much memory was held at most")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_whose_header_is_read_is_never_held_in_memory(data: Path, fault: str) -> None:
    bad = data / "train" / "0003.png"
    look(bad, pixels=False)
    FAULTS[fault](bad)
    reset_peak_memory()
    before = peak_memory()
    seen = look(bad, pixels=False)
    if fault in ("truncated", "a decompression bomb"):
        assert read_header(bad)[:2] == seen.size[::-1] != (0, 0)
    else:
        assert seen.problem
        with pytest.raises(DetrkitError, match=str(bad)):
            read_header(bad)
    assert peak_memory() - before < 50 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells how much memory was held at most")
def test_the_peak_of_memory_is_seen() -> None:
    reset_peak_memory()
    before = peak_memory()
    with mmap.mmap(-1, 60 * MIB) as held:  # of the system, since the heap may have so much free
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
    assert peak_memory() - before > 50 * MIB


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stops_at_a_bad_image_and_names_it(
    tmp_path: Path, data: Path, settings: dict[str, object], workers: int
) -> None:
    bad = data / "train" / "0003.png"
    with pytest.raises(DetrkitError, match=str(bad)) as caught:
        train(data, tmp_path / "run", settings | {"data.workers": workers}, bad)
    assert log(tmp_path / "run", "failed")[-1]["error"] == str(caught.value)


def twin_of(data: Path, root: Path, stand_ins: dict[int, int]) -> Path:
    """The dataset with some images, and their objects, replaced by others."""
    shutil.copytree(data, root)
    path = root / "annotations" / "instances_train.json"
    tree = json.loads(path.read_text())
    kept = [entry for entry in tree["annotations"] if entry["image_id"] not in stand_ins]
    for bad, other in stand_ins.items():
        shutil.copy(data / "train" / f"{other:04d}.png", root / "train" / f"{bad:04d}.png")
        kept += [entry | {"image_id": bad} for entry in tree["annotations"] if entry["image_id"] == other]
    tree["annotations"] = [entry | {"id": number} for number, entry in enumerate(kept, start=1)]
    path.write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_image_stands_in_for_a_bad_one(
    tmp_path: Path, data: Path, settings: dict[str, object], workers: int
) -> None:
    twin = twin_of(data, tmp_path / "twin", {2: 4, 3: 4, 6: 1})
    expected = losses(train(twin, tmp_path / "expected", settings))
    bad = [data / "train" / f"{number:04d}.png" for number in (2, 3, 6)]
    allowed = {"data.max_skipped_images": 3, "data.workers": workers}
    events = train(data, tmp_path / "run", settings | allowed, *bad)
    assert losses(events) == expected
    assert sorted(event.reason.split()[2] for event in skipped(events)) == [str(path) for path in bad]
    assert [event.number for event in skipped(events)] == [1, 2, 3]
    lines = log(tmp_path / "run", "skipped")
    assert [line["reason"] for line in lines] == [event.reason for event in skipped(events)]
    assert isinstance(events[-1], Finished)


def test_a_run_that_skips_resumes_to_the_same_losses(
    tmp_path: Path, data: Path, settings: dict[str, object]
) -> None:
    bad = [data / "train" / "0002.png", data / "train" / "0005.png"]
    whole = train(data, tmp_path / "whole", settings | SKIPPING, *bad)
    bad[0].unlink()
    with pytest.raises(DetrkitError, match=r"1 of the 6 images .* are missing"):
        list(begin(data, tmp_path / "strict", settings))
    for event in begin(data, tmp_path / "parts", settings | SKIPPING):
        if isinstance(event, Stepped) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
    train(data, tmp_path / "parts", settings | SKIPPING, resume=True)
    lines, expected = log(tmp_path / "parts", "step"), log(tmp_path / "whole", "step")
    assert [line["loss"] for line in lines] == [line["loss"] for line in expected] == losses(whole)
    told = [(line["step"], line["number"]) for line in log(tmp_path / "parts", "skipped")]
    assert told == [(event.step, event.number) for event in skipped(whole)]
    assert [number for _, number in told] == [1, 2]


def test_past_what_is_allowed_the_run_stops_and_a_resumed_one_may_allow_more(
    tmp_path: Path, data: Path, settings: dict[str, object]
) -> None:
    bad = [data / "train" / f"{number:04d}.png" for number in (2, 4)]
    some = settings | {"train.checkpoint_every": 1}
    with pytest.raises(DetrkitError) as caught:
        train(data, tmp_path / "run", some | {"data.max_skipped_images": 1}, *bad)
    assert any(str(path) in str(caught.value) for path in bad)
    assert "max_skipped_images allows, which is 1," in str(caught.value)
    assert len(log(tmp_path / "run", "skipped")) == 1
    train(data, tmp_path / "run", some | {"data.max_skipped_images": 2}, resume=True)
    assert [line["number"] for line in log(tmp_path / "run", "skipped")] == [1, 2]
    assert [line["step"] for line in log(tmp_path / "run", "step")] == [1, 2, 3, 4]


def test_where_no_image_can_be_read_the_search_ends(dataset: SplitDataset) -> None:
    shutil.rmtree(dataset.catalog.folder)
    for allowed in (1, 5, 60):
        steps = training_steps(
            dataset, **ORDER, batch_size=1, steps=range(1), rank=0, world=1, max_skipped=allowed
        )
        with pytest.raises(DetrkitError, match=f"which is {allowed}, cannot be read"):
            next(steps)


def test_processes_share_a_step_with_a_bad_image(dataset: SplitDataset) -> None:
    truncate(dataset.catalog.place(2))

    def batches(batch_size: int, rank: int, world: int) -> list[Batch]:
        steps = training_steps(
            dataset,
            **ORDER,
            batch_size=batch_size,
            steps=range(3),
            rank=rank,
            world=world,
            max_skipped=1,
        )
        return [batch for (batch,) in steps]

    whole, first, second = batches(4, 0, 1), batches(2, 0, 2), batches(2, 1, 2)
    for one, left, right in zip(whole, first, second, strict=True):
        assert one.image_ids == left.image_ids + right.image_ids
        assert one.unread == [*left.unread, *right.unread]
        parts = [*left.objects, *right.objects]
        assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(one.objects, parts, strict=True))
    seen = [image_id for batch in whole for image_id in batch.image_ids]
    assert sorted(seen) == [1, 1, 2, 2, 4, 4, 4, 4, 5, 5, 6, 6]
    assert [one.image_id for batch in whole for one in batch.unread] == [3, 3]


def test_in_evaluation_a_bad_image_changes_no_other(data: Path) -> None:
    dataset = SplitDataset(read_split(data, "val"), evaluation_transform(ImageSize(40, 48)))
    (whole,) = evaluation_batches(dataset, batch_size=3, workers=0)
    truncate(data / "val" / "0002.png")
    (found,) = evaluation_batches(dataset, batch_size=3, workers=0, blank_unread=True)
    assert [one.image_id for one in found.unread] == [2]
    assert found.image_ids == whole.image_ids
    pixels = whole.images.pixels.clone()
    pixels[1] = 0
    assert torch.equal(found.images.pixels, pixels)
    for left, right in zip(found.objects, whole.objects, strict=True):
        assert torch.equal(left.boxes, right.boxes)


def test_figures_without_a_bad_image_are_marked(
    tmp_path: Path, data: Path, settings: dict[str, object]
) -> None:
    some = settings | {"train.max_steps": 1, "train.ema": 0.9}
    bad = data / "val" / "0002.png"
    train(data, tmp_path / "whole", some)
    *_, validated, _ = train(data, tmp_path / "run", some | SKIPPING, bad)
    assert isinstance(validated, Validated)
    (reason,) = validated.unread
    assert str(bad) in reason
    assert log(tmp_path / "run", "validation")[0]["unread"] == [reason]
    figures, expected = (
        json.loads((tmp_path / out / "evaluation" / "metrics.json").read_text()) for out in ("run", "whole")
    )
    assert figures["unread"] == [reason]
    assert "unread" not in expected
    found, everything = (
        json.loads((tmp_path / out / "evaluation" / "detections.json").read_text())
        for out in ("run", "whole")
    )
    assert {entry["image_id"] for entry in everything} == {1, 2, 3}
    assert found == [entry for entry in everything if entry["image_id"] != 2]

    bad.unlink()
    *_, validated, _ = train(data, tmp_path / "missing", some | SKIPPING)
    assert isinstance(validated, Validated)
    assert len(validated.unread) == 1


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_validation_stops_where_more_is_bad_than_allowed(
    tmp_path: Path, data: Path, settings: dict[str, object], allowed: int
) -> None:
    bad = [data / "val" / "0001.png", data / "val" / "0003.png"]
    some = settings | {"train.max_steps": 1, "data.max_skipped_images": allowed}
    with pytest.raises(DetrkitError, match=str(bad[allowed])):
        train(data, tmp_path / "run", some, *bad)
    assert not (tmp_path / "run" / "evaluation").exists()


def test_the_matches_of_a_bad_image_are_none(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detrkit.training.validate.MATCHED_SHARE", 1)
    events = train(data, tmp_path / "run", settings | SKIPPING, data / "train" / "0003.png")
    matched = [event.matched for event in events if isinstance(event, Validated)]
    assert all([len(image) for image in one] == COUNTS for one in matched)
    assert all(
        (query == -1) == (image == 2) for one in matched for image, own in enumerate(one) for query in own
    )
