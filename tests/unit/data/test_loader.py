import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detrkit.data import loader
from detrkit.data.dataset import SplitDataset
from detrkit.data.formats.recognise import read_split
from detrkit.data.loader import evaluation_batches, telling_of_ended_workers, training_steps
from detrkit.data.order import Key, grouped, shuffled, step_keys
from detrkit.data.transforms import evaluation_transform, training_transform
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.structures import Batch, ImageSize, Sample, Unread

SMALL = DataSettings(short_sides=(64, 80), crop_short_sides=(80, 96), crop_sides=(48, 80))
ORDER: dict[str, Any] = {"seed": 3, "batch_size": 2, "accumulate": 2, "rank": 0, "world": 1}


@pytest.fixture(scope="module")
def train(shapes: Path) -> SplitDataset:
    return SplitDataset(read_split(shapes, "train"), training_transform(SMALL), seed=3)


@pytest.fixture(scope="module")
def val(shapes: Path) -> SplitDataset:
    return SplitDataset(read_split(shapes, "val"), evaluation_transform(ImageSize(64, 64)))


def flat(steps: Iterable[list[Batch]]) -> list[Batch]:
    return [batch for step in steps for batch in step]


def require_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.image_ids == b.image_ids
        assert a.original_sizes == b.original_sizes
        assert torch.equal(a.images.pixels, b.images.pixels)
        assert (a.images.valid is None) == (b.images.valid is None)
        assert a.images.valid is None or torch.equal(a.images.valid, b.images.valid)
        for x, y in zip(a.objects, b.objects, strict=True):
            assert torch.equal(x.boxes, y.boxes)
            assert torch.equal(x.labels, y.labels)


def test_steps_follow_the_order_across_epochs(train: SplitDataset) -> None:
    steps = list(training_steps(train, **ORDER, steps=range(8, 12), workers=0))
    for step, batches in zip(range(8, 12), steps, strict=True):
        keys = step_keys(shuffled(3, 40), 40, step, 2, 2, 0, 1)
        expected = [[int(train.catalog.image_ids[index]) for _, index in micro] for micro in keys]
        assert [batch.image_ids for batch in batches] == expected


def test_steps_follow_the_order_of_groups(shared: Path) -> None:
    dataset = SplitDataset(
        read_split(shared / "coco-mini", "val2017"), evaluation_transform(ImageSize(32, 48))
    )
    order = grouped(3, dataset.aspects, 8)
    found = flat(
        training_steps(dataset, **ORDER | {"batch_size": 8}, steps=range(6), workers=0, group_size=8)
    )
    keys = [micro for step in range(6) for micro in step_keys(order, 120, step, 8, 2, 0, 1)]
    expected = [[int(dataset.catalog.image_ids[index]) for _, index in micro] for micro in keys]
    assert [batch.image_ids for batch in found] == expected


def test_groups_are_padded_less_and_resume(train: SplitDataset) -> None:
    order = ORDER | {"batch_size": 8, "accumulate": 1, "workers": 0}
    settings = SMALL.model_copy(update={"crop_probability": 1.0})
    dataset = SplitDataset(train.catalog, training_transform(settings), seed=3)
    shares = []
    for size in (0, 8):
        batches = flat(training_steps(dataset, **order, steps=range(10), group_size=size))
        seen = [batch.images.valid for batch in batches]
        shares.append(np.mean([1.0 if valid is None else float(valid.float().mean()) for valid in seen]))
        later = flat(training_steps(dataset, **order, steps=range(7, 10), group_size=size))
        require_equal(later, batches[7:])
    assert shares[1] > shares[0] + 0.05


def test_workers_change_nothing(train: SplitDataset) -> None:
    alone = flat(training_steps(train, **ORDER, steps=range(12), workers=0))
    require_equal(flat(training_steps(train, **ORDER, steps=range(12), workers=2)), alone)


def test_a_later_range_continues(train: SplitDataset) -> None:
    whole = flat(training_steps(train, **ORDER, steps=range(6), workers=0))
    require_equal(flat(training_steps(train, **ORDER, steps=range(4, 6), workers=0)), whole[8:])


def test_processes_share_a_step(train: SplitDataset) -> None:
    alone = flat(training_steps(train, **ORDER, steps=range(2), workers=0))
    shared = ORDER | {"accumulate": 1, "world": 2}
    first, second = (
        flat(training_steps(train, **shared | {"rank": rank}, steps=range(2), workers=0)) for rank in range(2)
    )
    require_equal([first[0], second[0], first[1], second[1]], alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_is_left_alone(train: SplitDataset, workers: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(training_steps(train, **ORDER, steps=range(1), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("world", [1, 3, 12])
def test_evaluation_sees_every_image_once(val: SplitDataset, world: int) -> None:
    seen = []
    for rank in range(world):
        batches = list(evaluation_batches(val, batch_size=3, workers=0, rank=rank, world=world))
        mine = [image_id for batch in batches for image_id in batch.image_ids]
        assert mine == val.catalog.image_ids[rank::world].tolist()
        assert all(len(batch.image_ids) == 3 for batch in batches[:-1])
        seen += mine
    assert sorted(seen) == sorted(val.catalog.image_ids.tolist())


def test_evaluation_with_workers(val: SplitDataset) -> None:
    alone = list(evaluation_batches(val, batch_size=4, workers=0))
    require_equal(list(evaluation_batches(val, batch_size=4, workers=2)), alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_one_sentence(shapes: Path, tmp_path: Path, workers: int) -> None:
    catalog = read_split(shapes, "val")
    for path in catalog.folder.iterdir():
        (tmp_path / path.name).write_bytes(
            path.read_bytes()[:100] if "0005" in path.name else path.read_bytes()
        )
    object.__setattr__(catalog, "folder", tmp_path)
    dataset = SplitDataset(catalog, evaluation_transform(ImageSize(64, 64)))
    batches = evaluation_batches(dataset, batch_size=2, workers=workers)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DetrkitError) as caught:
        next(batches)
    assert str(caught.value).startswith(f"the image {tmp_path}/000005.png cannot be read")
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_closing_ends_the_workers(train: SplitDataset) -> None:
    steps = training_steps(train, **ORDER, steps=range(1000), workers=2)
    next(steps)
    assert len(multiprocessing.active_children()) == 2
    steps.close()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform != "linux", reason="a signal says who sent it on Linux alone")
def test_workers_heed_signals_of_their_parent_alone(train: SplitDataset) -> None:
    steps = training_steps(train, **ORDER, steps=range(1000), workers=1)
    next(steps)
    (worker,) = multiprocessing.active_children()
    for name in ("TERM", "INT", "USR1", "USR2"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    for _ in range(20):
        next(steps)
    assert worker.is_alive()
    steps.close()

    steps = training_steps(train, **ORDER, steps=range(1000), workers=1)
    next(steps)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_that_the_system_kills_is_one_sentence(train: SplitDataset, busy: bool) -> None:
    """Whether the process waits for it then or is busy with something else."""
    steps = training_steps(train, **ORDER, steps=range(1000), workers=2)
    next(steps)

    def train_on() -> None:
        with telling_of_ended_workers():
            worker, _ = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            if busy:
                time.sleep(20)
            list(steps)

    with pytest.raises(DetrkitError) as caught:
        train_on()
    steps.close()
    assert str(caught.value).startswith("a process that loads images has ended (")
    assert "lower data.workers or data.batch_size" in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), EOFError()])
def test_a_batch_that_went_with_its_worker_is_the_same_sentence(
    monkeypatch: pytest.MonkeyPatch, train: SplitDataset, error: Exception
) -> None:
    """What torch's reader raises where a batch was announced, and its worker then ended."""

    def broken(*given: object, **named: object) -> Iterator[Batch]:
        raise error
        yield

    monkeypatch.setattr(loader, "DataLoader", broken)
    with pytest.raises(DetrkitError, match=r"a process that loads images has ended .*(refused|EOFError)"):
        next(training_steps(train, **ORDER, steps=range(1), workers=1))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error", [RuntimeError("a kernel failed"), ConnectionResetError("the store is away"), EOFError("cut")]
)
def test_what_a_dataset_raises_stays_what_it_is(error: Exception, workers: int) -> None:
    def fail(key: Key) -> tuple[Sample, list[Unread]]:
        raise error

    with pytest.raises(type(error), match=str(error)):
        next(loader._load(fail, [[(0, 0)]], workers))
