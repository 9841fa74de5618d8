"""How much faster training's views are made from a copy with smaller images."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.order import Key
from detrkit.data.transforms import training_transform
from detrkit.settings.data import DataSettings


class Pace(NamedTuple):
    """Seconds per view, as medians over turns, and the median of the turns' ratios."""

    originals: float
    copies: float
    ratio: float
    images: int
    turns: int


def compare_pace(
    originals: Catalog, copies: Catalog, settings: DataSettings, *, images: int = 32, turns: int = 5
) -> Pace:
    """The time that the same views take from both, one after the other, on one thread.

    Turns differ in their views, of the same images drawn at random. All files are read once before, so that
    this is the processor's time and not the disk's.
    """
    transform = training_transform(settings)
    datasets = [SplitDataset(catalog, transform) for catalog in (originals, copies)]
    count = min(images, len(originals))
    chosen = np.random.default_rng(0).choice(len(originals), count, replace=False).tolist()
    for catalog in (originals, copies):
        for index in chosen:
            catalog.path(index).read_bytes()
    with _one_thread():
        _seconds(datasets, [(0, chosen[0])])  # which a first call would not be typical of
        times = np.array([_seconds(datasets, [(turn, index) for index in chosen]) for turn in range(turns)])
    original, copy = np.median(times, axis=0).tolist()
    return Pace(original / count, copy / count, float(np.median(times[:, 0] / times[:, 1])), count, turns)


def _seconds(datasets: list[SplitDataset], keys: list[Key]) -> list[float]:
    """What each dataset takes for all samples, which they take in turns."""
    totals = [0.0] * len(datasets)
    for key in keys:
        for number, dataset in enumerate(datasets):
            start = time.perf_counter()
            dataset[key]
            totals[number] += time.perf_counter() - start
    return totals


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
