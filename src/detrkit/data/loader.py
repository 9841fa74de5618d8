"""Batches in order, loaded by worker processes ahead of their use.

The loop of torch's DataLoader is all that is taken from it: which samples make a batch is said by
``order`` and the numbers in them by ``dataset``, so that workers change the speed and nothing else.
"""

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from detrkit.data.collate import collate
from detrkit.data.dataset import SplitDataset
from detrkit.data.order import Key, grouped, mix_all, mix_shards, shuffled, step_keys
from detrkit.errors import DetrkitError
from detrkit.structures import Batch


def training_steps(
    dataset: SplitDataset,
    *,
    seed: int,
    batch_size: int,
    accumulate: int,
    rank: int,
    world: int,
    steps: range,
    workers: int,
    group_size: int = 0,
    shards_at_once: int = 0,
) -> Generator[list[Batch], None, None]:
    """The ``accumulate`` micro-batches of this process for each of the optimiser steps ``steps``.

    A later range continues exactly where an earlier one ended. Closing the iterator ends its workers.
    ``group_size`` neighbours in the order, which whole micro-batches should make up, are shown at nearly one
    aspect ratio; 0 does not group. Of images in shards, those of ``shards_at_once`` are mixed, or all if that
    is 0.

    Raises:
        DetrkitError: An image cannot be read, whichever process found it.
    """
    shards = dataset.catalog.shards
    mix = mix_all if shards is None else mix_shards(shards.shard, shards_at_once)
    order = (
        grouped(seed, dataset.aspects, group_size, mix) if group_size else shuffled(seed, len(dataset), mix)
    )
    keys = (
        micro_batch
        for step in steps
        for micro_batch in step_keys(order, len(dataset), step, batch_size, accumulate, rank, world)
    )
    with closing(_load(dataset, keys, workers)) as batches:
        for _ in steps:
            yield list(islice(batches, accumulate))


def evaluation_batches(
    dataset: SplitDataset, *, batch_size: int, workers: int, rank: int = 0, world: int = 1
) -> Generator[Batch, None, None]:
    """Every ``world``-th image from ``rank`` on, once and in order; the last batch may be smaller.

    Raises:
        DetrkitError: An image cannot be read, whichever process found it.
    """
    mine = range(rank, len(dataset), world)
    keys = (
        [(0, index) for index in mine[first : first + batch_size]]
        for first in range(0, len(mine), batch_size)
    )
    with closing(_load(dataset, keys, workers)) as batches:
        yield from batches


class _Batches(Dataset[Batch | DetrkitError]):
    """Whole batches by the keys of their samples.

    An error is returned in place of a batch, since raising it would bury it in the worker's traceback.
    """

    def __init__(self, samples: SplitDataset) -> None:
        self._samples = samples

    def __getitem__(self, keys: list[Key]) -> Batch | DetrkitError:
        try:
            return collate([self._samples[key] for key in keys])
        except DetrkitError as error:
            return error


def _load(dataset: SplitDataset, keys: Iterable[list[Key]], workers: int) -> Generator[Batch, None, None]:
    loaded = iter(
        DataLoader(
            _Batches(dataset),
            sampler=keys,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            worker_init_fn=heed_the_parent_alone,
            prefetch_factor=2 if workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or it would draw from the global one, and dropout would differ
        )
    )
    try:
        for batch in loaded:
            if isinstance(batch, DetrkitError):
                raise batch
            yield batch
    finally:
        del loaded  # the workers end with it


def heed_the_parent_alone(worker: int) -> None:
    """Ctrl-C, torchrun and job schedulers signal every process; what it means is for the parent to decide."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere, a signal does not say who sent it
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


def _unchanged(batch: Any) -> Any:
    return batch
