"""Memory stays flat from epoch to epoch, in the training process and in those that load images."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

DRIVER = Path(__file__).with_name("memory_of_a_run.py")
MIB = 1 << 20
Train = Callable[..., tuple[list[int], list[int]]]


def memory_by_epoch(
    data: Path, out: Path, settings: dict[str, object], leak: int = 0
) -> tuple[list[int], list[int]]:
    """Resident bytes of a training process, and of all its workers, at each validation."""
    case = out.with_name("case.json")
    asked = {"data": str(data), "out": str(out), "settings": settings, "leak": leak}
    case.write_text(json.dumps(asked))
    command = [sys.executable, str(DRIVER), str(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    own, workers = json.loads(done.stdout)
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

    def train(leak: int = 0) -> tuple[list[int], list[int]]:
        return memory_by_epoch(data, tmp_path / "run", small_detr | shown | length, leak)

    return train


def test_after_three_epochs_memory_is_flat(tiny: Train) -> None:
    own, workers = tiny()
    assert len(own) == len(workers) == 6
    assert min(workers) > MIB
    assert growth(own, 3) < 0.005
    assert growth(workers, 3) < 0.005


def test_a_leak_of_twenty_mebibytes_in_an_epoch_is_seen(tiny: Train) -> None:
    own, _ = tiny(leak=20 * MIB)
    assert growth(own, 3) > 0.005


@pytest.mark.long
def test_thirty_epochs_of_coco_are_flat(tmp_path: Path, shared: Path, small_detr: dict[str, object]) -> None:
    shown = {"data.short_sides": [32, 48, 64], "data.max_size": 96, "data.eval_short_side": 64}
    length = {"train.epochs": 30, "data.batch_size": 16, "data.workers": 1, "train.ema": 0.99}
    own, workers = memory_by_epoch(shared / "coco-mini", tmp_path / "run", small_detr | shown | length)
    assert len(own) == 30
    assert growth(own, 3) < 0.001
    assert growth(workers, 3) < 0.001
