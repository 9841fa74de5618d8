"""Memory stays flat from epoch to epoch, in the training process and in those that load images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

import detrkit
from detrkit.training.events import Event, Validated

MIB = 1 << 20
ME = psutil.Process()
Listener = Callable[[Event], None]
Train = Callable[..., tuple[list[int], list[int]]]


def ignore(event: Event) -> None:
    pass


def memory_by_epoch(
    data: Path, out: Path, settings: dict[str, object], listener: Listener = ignore
) -> tuple[list[int], list[int]]:
    """Resident bytes of this process, and of all its workers, at each validation."""
    own, workers = [], []
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), data, out):
        listener(event)
        if isinstance(event, Validated):
            children = [child for child in ME.children() if child.status() != psutil.STATUS_ZOMBIE]
            own.append(ME.memory_info().rss)
            workers.append(sum(child.memory_info().rss for child in children))
    return own, workers


def growth(memory: list[int], start: int) -> float:
    """By what fraction of itself memory grows in an epoch after the first ``start``, a straight line says."""
    later = memory[start:]
    slope, _ = np.polyfit(range(len(later)), later, 1)
    return float(slope) / float(np.mean(later))


@pytest.fixture
def tiny(tmp_path: Path, write_coco: Callable[..., Path], small_detr: dict[str, object]) -> Train:
    """Trains for 6 epochs of 2 steps with a validation each."""
    data = write_coco(tmp_path / "data", train=[2, 1, 3, 0], val=[1])
    shown = {"data.short_sides": [32], "data.max_size": 32, "data.workers": 1}
    length = {"train.max_steps": 12, "data.batch_size": 2, "train.trackers": []}

    def train(listener: Listener = ignore) -> tuple[list[int], list[int]]:
        return memory_by_epoch(data, tmp_path / "run", small_detr | shown | length, listener)

    return train


def test_after_three_epochs_memory_is_flat(tiny: Train) -> None:
    own, workers = tiny()
    assert len(own) == len(workers) == 6
    assert min(workers) > MIB
    assert growth(own, 3) < 0.005
    assert growth(workers, 3) < 0.005


def test_a_leak_of_twenty_mebibytes_in_an_epoch_is_seen(tiny: Train) -> None:
    held: list[bytes] = []

    def leak(event: Event) -> None:
        if isinstance(event, Validated):
            held.append(b"x" * (20 * MIB))

    own, _ = tiny(leak)
    assert growth(own, 3) > 0.005


@pytest.mark.long
def test_thirty_epochs_of_coco_are_flat(tmp_path: Path, shared: Path, small_detr: dict[str, object]) -> None:
    shown = {"data.short_sides": [32, 48, 64], "data.max_size": 96, "data.eval_short_side": 64}
    length = {"train.epochs": 30, "data.batch_size": 16, "data.workers": 1, "train.ema": 0.99}
    own, workers = memory_by_epoch(shared / "coco-mini", tmp_path / "run", small_detr | shown | length)
    assert len(own) == 30
    assert growth(own, 3) < 0.001
    assert growth(workers, 3) < 0.001
