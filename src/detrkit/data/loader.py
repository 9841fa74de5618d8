"""Batches in order, loaded by worker processes ahead of their use.

The loop of torch's DataLoader is all that is taken from it: which samples make a batch is said by
``order`` and the numbers in them by ``dataset``, so that workers change the speed and nothing else.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset

from detrkit.data.collate import collate
from detrkit.data.dataset import SplitDataset
from detrkit.data.order import Key, grouped, mix_all, mix_shards, shuffled, step_keys
from detrkit.errors import DetrkitError, UnreadableImageError
from detrkit.structures import Batch, Sample, Unread

PATIENCE = 2.0
"""Seconds that workers have to end when their loop is left. One that hangs, as on a server that is away, is
then told to once more."""

_workers: WeakSet[BaseProcess] = WeakSet()
"""All that were started here."""

Read = Callable[[Key], tuple[Sample, list[Unread]]]
"""A sample, and the images that could not be read on the way to it."""


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
    max_skipped: int = 0,
) -> Generator[list[Batch], None, None]:
    """The ``accumulate`` micro-batches of this process for each of the optimiser steps ``steps``.

    A later range continues exactly where an earlier one ended. Closing the iterator ends its workers.
    ``group_size`` neighbours in the order, which whole micro-batches should make up, are shown at nearly one
    aspect ratio; 0 does not group. Of images in shards, those of ``shards_at_once`` are mixed, or all if that
    is 0.

    In place of an image that cannot be read stands the next one of the dataset that can, unless more than
    ``max_skipped`` in a row cannot; the batch names them. So a step follows from the order and the files
    alone: whoever loads it, resumed or not, finds the same images and asks no other process. And a batch
    keeps its size, where one whose images are left out could be empty.

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
    return _in_steps(_load(partial(_or_next, dataset, max_skipped), keys, workers), steps, accumulate)


def evaluation_batches(
    dataset: SplitDataset,
    *,
    batch_size: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    blank_unread: bool = False,
) -> Generator[Batch, None, None]:
    """Every ``world``-th image from ``rank`` on, once and in order; the last batch may be smaller.

    With ``blank_unread``, an image that cannot be read is black and named by its batch, so that all others
    are padded, and answered, as if it were there.

    Raises:
        DetrkitError: An image cannot be read, whichever process found it.
    """
    mine = range(rank, len(dataset), world)
    keys = (
        [(0, index) for index in mine[first : first + batch_size]]
        for first in range(0, len(mine), batch_size)
    )
    return _load(partial(_or_blank if blank_unread else _required, dataset), keys, workers)


def _in_steps(
    batches: Generator[Batch, None, None], steps: range, accumulate: int
) -> Generator[list[Batch], None, None]:
    with closing(batches):
        for _ in steps:
            yield list(islice(batches, accumulate))


def too_many_unread(reason: str, allowed: int) -> UnreadableImageError:
    """The error that ends a run which has skipped as many images as it may."""
    return UnreadableImageError(
        f"{reason} More images than data.max_skipped_images allows, which is {allowed}, cannot be read: mend "
        "the dataset, or allow more."
    )


@contextmanager
def telling_of_ended_workers() -> Iterator[None]:
    """While entered, what torch raises where a worker has ended becomes a sentence on what to do.

    torch raises it by a signal: wherever the process is then, and not only where it waits for a batch.

    Raises:
        DetrkitError: in place of that. What a dataset raises in a worker stays what it is.
    """
    try:
        yield
    except RuntimeError as error:
        if not _says_that_a_worker_ended(error):
            raise
        raise _ended(error) from None


def _says_that_a_worker_ended(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")


def _is_broken_fetch(error: Exception) -> bool:
    """Whether a worker ended before it handed over what it had; a dataset's own error says where it was."""
    return not isinstance(error, RuntimeError) and "in DataLoader worker process" not in str(error)


def _ended(error: Exception) -> DetrkitError:
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    _forget_traces(error)  # or they would keep the other workers
    return DetrkitError(
        f"a process that loads images has ended ({said}), as happens where memory runs out: lower "
        "data.workers or data.batch_size. A run goes on from its last save with --resume."
    )


def _forget_traces(error: BaseException | None) -> None:
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _required(dataset: SplitDataset, key: Key) -> tuple[Sample, list[Unread]]:
    return dataset[key], []


def _or_next(dataset: SplitDataset, allowed: int, key: Key) -> tuple[Sample, list[Unread]]:
    """The sample, or in the same epoch that of the next image that can be read."""
    (epoch, index), unread = key, []
    while True:
        try:
            return dataset[epoch, index], unread
        except UnreadableImageError as error:
            if not allowed:
                raise
            if len(unread) == allowed:
                raise too_many_unread(str(error), allowed) from None
            unread.append(_unread(dataset, index, error))
        index = (index + 1) % len(dataset)


def _or_blank(dataset: SplitDataset, key: Key) -> tuple[Sample, list[Unread]]:
    """The sample, black if its image cannot be read."""
    try:
        return dataset[key], []
    except UnreadableImageError as error:
        return dataset.blank(key), [_unread(dataset, key[1], error)]


def _unread(dataset: SplitDataset, index: int, error: UnreadableImageError) -> Unread:
    return Unread(int(dataset.catalog.image_ids[index]), str(error))


class _Batches(Dataset[Batch | DetrkitError]):
    """Whole batches by the keys of their samples, each of which ``read`` makes.

    An error is returned in place of a batch, since raising it would bury it in the worker's traceback.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def __getitem__(self, keys: list[Key]) -> Batch | DetrkitError:
        try:
            found = [self._read(key) for key in keys]
        except DetrkitError as error:
            return error
        unread = [one for _, met in found for one in met]
        return collate([sample for sample, _ in found])._replace(unread=unread)


def _load(read: Read, keys: Iterable[list[Key]], workers: int) -> Generator[Batch, None, None]:
    """The batches. Workers begin here and not with the first: what ends a wait for that must not end this."""
    before = set(multiprocessing.active_children())
    loader = DataLoader(
        _Batches(read),
        sampler=keys,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        worker_init_fn=heed_the_parent_alone,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or it would draw from the global one, and dropout would differ
    )
    with _sigterm_held():
        loaded = iter(loader)
    mine = set(multiprocessing.active_children()) - before
    _workers.update(mine)
    return _each(loaded, workers, mine)


def _each(
    loaded: Iterator[Any], workers: int, processes: Collection[BaseProcess]
) -> Generator[Batch, None, None]:
    try:
        while True:
            try:
                batch = next(loaded)
            except StopIteration:
                return
            except (RuntimeError, ConnectionError, EOFError) as error:
                if not (_says_that_a_worker_ended(error) or (workers and _is_broken_fetch(error))):
                    raise
                _reap(processes)
                raise _ended(error) from None
            if isinstance(batch, DetrkitError):
                raise batch
            yield batch
    finally:
        try:
            _end_soon(processes)
        finally:
            del loaded  # the workers end with it


def _reap(workers: Collection[BaseProcess]) -> None:
    """Have the system forget a worker that has ended: torch would raise again, amid the end of the others."""
    until = time.monotonic() + 1
    with suppress(RuntimeError):  # which it may do now
        while workers and all(worker.is_alive() for worker in workers) and time.monotonic() < until:
            time.sleep(0.01)


def _end_soon(workers: Collection[BaseProcess]) -> None:
    """Have those end together that hang; torch waits five seconds for each, one after the other."""
    if sys.platform == "linux" and any(worker.is_alive() for worker in workers):
        timer = threading.Timer(PATIENCE, lambda: [worker.terminate() for worker in workers])
        timer.daemon = True
        timer.start()


@atexit.register
def _end_all() -> None:
    """End what SIGTERM does not, as a worker that is stopped: multiprocessing would wait for it for ever.

    Of functions registered so, the last is called first.
    """
    with suppress(AssertionError):  # a fork of the process that has them has not
        for worker in list(_workers):
            if worker.is_alive():
                worker.kill()


@contextmanager
def _sigterm_held() -> Iterator[None]:
    """While entered, processes that begin do not hear SIGTERM, until they can say what it means to them."""
    if sys.platform != "linux":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
