"""How soon one image is answered, and how many are in a second."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import torch

from detrkit.benchmark.events import Listener
from detrkit.benchmark.looking import Clock, Look
from detrkit.benchmark.results import Effort, Speed, Spread, Stages
from detrkit.benchmark.turns import in_turns, spread

Key = tuple[str, str]
"""An entrant's name and a precision."""


class Passed(NamedTuple):
    """Seconds of one image."""

    preprocessing: float
    network: float
    postprocessing: float | None

    @property
    def whole(self) -> float:
        """From the file to the detections."""
        return self.preprocessing + self.network + (self.postprocessing or 0.0)


def measure_speed(
    looks: Sequence[Look], images: int, effort: Effort, clock: Clock, listener: Listener
) -> dict[Key, Speed]:
    """The speed of every look at a split of so many images, all in turns."""
    passed = time_images(looks, images, effort, clock, listener)
    throughput = time_batches(looks, images, effort, clock, listener)
    return {key: _speed(turns, throughput.get(key, {})) for key, turns in passed.items()}


def time_images(
    looks: Sequence[Look], images: int, effort: Effort, clock: Clock, listener: Listener
) -> dict[Key, list[list[Passed]]]:
    """Every image of every turn. In a turn, all look at the same images, one at a time."""
    chosen = spread_evenly(images, max(1, effort.turns) * effort.images)
    for look in looks[:1]:
        for place in chosen:
            look.prepare([place])  # files are read from the disk once, so that nobody has to wait for it
    found: dict[Key, list[list[Passed]]] = defaultdict(list)
    for turn, look in in_turns("Latency", looks, effort.turns, listener):
        places = [chosen[(turn * effort.images + rank) % len(chosen)] for rank in range(effort.images)]
        _pass(look, places[0], clock)  # of what the one before has left in caches
        seconds = [_pass(look, place, clock) for place in places]
        if turn >= 0:
            found[look.name, look.precision].append(seconds)
    return dict(found)


def time_batches(
    looks: Sequence[Look], images: int, effort: Effort, clock: Clock, listener: Listener
) -> dict[Key, dict[int, Spread]]:
    """Images per second by the size of the batch, without preprocessing; the same images in every turn."""
    found: dict[tuple[Key, int], list[float]] = defaultdict(list)
    jobs = [
        (look, batch)
        for batch in effort.batches
        for look in looks
        if look.largest_batch is None or batch <= look.largest_batch
    ]
    too_large: set[tuple[Key, int]] = set()
    for turn, (look, batch) in in_turns("Throughput", jobs, effort.turns, listener):
        key = ((look.name, look.precision), batch)
        if key in too_large:
            continue
        prepared = look.prepare(spread_evenly(images, batch))
        start = clock()
        try:
            look.answer(prepared)
            seconds = clock() - start
        except torch.OutOfMemoryError:
            too_large.add(key)
            continue
        if turn >= 0:
            found[key].append(batch / seconds)
    throughput: dict[Key, dict[int, Spread]] = defaultdict(dict)
    for (key, batch), rates in found.items():
        if (key, batch) not in too_large:
            throughput[key][batch] = spread(rates)
    return {key: dict(sorted(rates.items())) for key, rates in throughput.items()}


def spread_evenly(images: int, wanted: int) -> list[int]:
    """So many positions of a split, evenly from its beginning to its end, each again where it has fewer."""
    return [rank * images // wanted for rank in range(wanted)]


def _pass(look: Look, place: int, clock: Clock) -> Passed:
    start = clock()
    prepared = look.prepare([place])
    ready = clock()
    network_end = look.answer(prepared)
    done = clock()
    if network_end is None:
        return Passed(ready - start, done - ready, None)
    return Passed(ready - start, network_end - ready, done - network_end)


def _speed(turns: list[list[Passed]], throughput: dict[int, Spread]) -> Speed:
    every = [one for turn in turns for one in turn]
    wholes = [one.whole for one in every]
    posts = [one.postprocessing for one in every if one.postprocessing is not None]
    p50, p95 = np.quantile(wholes, (0.5, 0.95)).tolist()
    return Speed(
        p50=p50,
        p95=p95,
        turns=spread([median(one.whole for one in turn) for turn in turns]),
        stages=Stages(
            fmean(one.preprocessing for one in every),
            fmean(one.network for one in every),
            fmean(posts) if posts else None,
        ),
        throughput=throughput,
    )
