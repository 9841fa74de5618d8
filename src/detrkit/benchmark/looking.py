"""A detector made ready to look at images of a split, and to tell when its network's part of it ended."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from detrkit.catalog import Catalog
from detrkit.data.collate import collate
from detrkit.data.dataset import SplitDataset
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detector import Detector
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.inference.precision import Precision
from detrkit.structures import Batch, ImageSize

Clock = Callable[[], float]


class Look(NamedTuple):
    """One way to look at images, in two steps that are timed apart.

    ``prepare`` reads and resizes the images at these positions of the split; ``answer`` finds what is in
    them, and returns the moment at which the network's part was over, None where that is not known. There are
    no more than ``largest_batch`` images at a time, if that is set.
    """

    name: str
    precision: str
    prepare: Callable[[Sequence[int]], Any]
    answer: Callable[[Any], float | None]
    largest_batch: int | None = None


def described(size: ImageSize) -> str:
    """An image size in words."""
    return f"{size.short_side}, at most {size.max_size}"


def device_clock(device: torch.device) -> Clock:
    """The time at which a device has done all that it was asked for."""
    if device.type != "cuda":
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def look_of(name: str, detector: Detector, precision: Precision, catalog: Catalog, clock: Clock) -> Look:
    """As ``evaluate`` and ``Predictor`` look: with a copy of the detector that is ``frozen``."""
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    answering = frozen(detector, precision)

    def prepare(places: Sequence[int]) -> Batch:
        return collate([dataset[0, place] for place in places])

    def run(batch: Batch) -> None:
        detect(answering, batch.images, batch.original_sizes, precision)

    first = prepare([0])
    end = NetworkEnd(answering, lambda: run(first), clock)

    def answer(batch: Batch) -> float | None:
        run(batch)
        return end.moment

    return Look(name, precision, prepare, answer)


class NetworkEnd:
    """Notes the ``moment`` at which the last layer with weights has answered. Then comes post-processing.

    Which layer that is, one pass tells, so that no other has to be watched in those that are timed.
    """

    def __init__(self, network: nn.Module, run: Callable[[], object], clock: Clock) -> None:
        self.moment: float | None = None
        self._clock = clock
        last: list[nn.Module] = []

        def note(module: nn.Module, *_: object) -> None:
            last[:] = [module]

        hooks = [module.register_forward_hook(note) for module in network.modules() if _has_weights(module)]
        run()
        for hook in hooks:
            hook.remove()
        for module in last:
            module.register_forward_hook(self._note)

    def _note(self, *_: object) -> None:
        self.moment = self._clock()


def _has_weights(module: nn.Module) -> bool:
    """Whether it is a layer of its own with numbers that were learned, parameters or folded ones."""
    is_leaf = next(module.children(), None) is None
    return is_leaf and (bool(module._parameters) or bool(module._buffers))
