"""How many images a second of training sees, in steps on one batch that is there already."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from detrkit.benchmark.events import Listener
from detrkit.benchmark.latency import Key, spread_evenly
from detrkit.benchmark.looking import Clock
from detrkit.benchmark.opened import Opened
from detrkit.benchmark.results import Effort, Spread
from detrkit.benchmark.turns import in_turns, spread
from detrkit.catalog import Catalog
from detrkit.data.collate import collate
from detrkit.data.dataset import SplitDataset
from detrkit.data.transforms import evaluation_transform
from detrkit.inference.precision import Precision, autocast
from detrkit.objective.criterion import count_totals
from detrkit.training.norms import clip_gradients, groups_of
from detrkit.training.optimise import build_optimizer, set_rates
from detrkit.training.step import to_device

Step = Callable[[Precision], None]


class Training(NamedTuple):
    """An entrant's step in one precision."""

    name: str
    precision: Precision
    step: Step


def training_step(opened: Opened, catalog: Catalog, images: int, device: torch.device) -> Step:
    """A step as training takes it: losses, gradients, clipping and the update, always of the same images.

    These are of the split, at the size that the detector evaluates at. Its weights stay what they are, at a
    learning rate of 0, so that no number of steps makes them diverge.
    """
    detector, experiment = opened
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    batch = collate([dataset[0, place] for place in spread_evenly(len(catalog), images)])
    batch = to_device(batch, device, torch.float32)
    totals = count_totals(batch.objects, detector.max_objects)
    optimizer = build_optimizer(detector, experiment.optim)
    set_rates(optimizer, 0.0)

    def step(precision: Precision) -> None:
        detector.train()
        optimizer.zero_grad()
        with autocast(device.type, precision):
            loss = detector(batch.images, batch.objects, totals).total
        loss.backward()
        clip_gradients(detector.parameters(), groups_of(optimizer), experiment.optim.clip_norm)
        optimizer.step()

    return step


def measure_training(
    steps: Mapping[str, Step], effort: Effort, clock: Clock, listener: Listener
) -> dict[Key, Spread]:
    """Images per second of every entrant's step in every precision, all in turns."""
    found: dict[Key, list[float]] = defaultdict(list)
    members = [Training(name, one, step) for name, step in steps.items() for one in effort.precisions]
    for turn, (name, precision, step) in in_turns("Training", members, effort.turns, listener):
        start = clock()
        step(precision)
        seconds = clock() - start
        if turn >= 0:
            found[name, precision].append(effort.training_batch / seconds)
    return {key: spread(rates) for key, rates in found.items()}
