"""The order in which images are seen, as a function of the seed and the step alone.

All epochs form one endless stream: a permutation of the images, then another. An optimiser step takes
the next part of it, across the end of an epoch if need be, so that no image is dropped, every process
has equal work, and neither their number nor that of the micro-batches changes which images a step sees.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from detrkit.errors import DetrkitError

Key = tuple[int, int]
"""(epoch, index of the image): names one sample of all that a dataset can give."""

Order = Callable[[int], Int64[np.ndarray, " images"]]
"""The order of all images in an epoch. Read-only, since it is shared."""

Aspects = Callable[[int], Float64[np.ndarray, " images"]]
"""Width over height of all images as they are shown in an epoch."""

Mix = Callable[[np.random.Generator, int], Int64[np.ndarray, " images"]]
"""Draws a permutation of so many images."""

_WINDOW = 64
"""Micro-batches among which images are grouped: the more, the less padding, and the less they mix."""


def mix_all(random: np.random.Generator, num_images: int) -> Int64[np.ndarray, " images"]:
    """Every permutation is equally likely."""
    return random.permutation(num_images)


def mix_shards(shard: Int64[np.ndarray, " images"], at_once: int) -> Mix:
    """Shards come in any order, ``at_once`` or nearly as many together, and the images of these are mixed.

    So the images that are read for a while lie in a few files. Every image is equally likely in every place
    where shards have equally many. If there are no more shards than ``at_once``, this is ``mix_all``.

    Args:
        shard: The number of the shard that each image is in, from 0.
        at_once: Shards whose images are mixed; 0 is all.
    """
    num_shards = int(shard.max(initial=-1)) + 1
    if at_once == 0 or num_shards <= at_once:
        return mix_all
    ends = np.searchsorted(
        shard, range(num_shards + 1), sorter=(by_shard := np.argsort(shard, kind="stable"))
    )
    members = [by_shard[start:end] for start, end in pairwise(ends)]
    return partial(_mix_shards, members, -(-num_shards // at_once))


def shuffled(seed: int, num_images: int, mix: Mix = mix_all) -> Order:
    """The permutations that ``mix`` draws."""
    return lru_cache(maxsize=4)(partial(_shuffled, seed, num_images, mix))


def grouped(seed: int, aspects: Aspects, batch_size: int, mix: Mix = mix_all) -> Order:
    """Images of nearly one aspect ratio share a micro-batch of ``batch_size``, which then is padded less.

    A permutation that ``mix`` draws is sorted by ``aspects`` in windows of ``_WINDOW`` micro-batches,
    which are then shuffled. The images of a micro-batch that reaches into another epoch are not grouped.
    """
    return lru_cache(maxsize=4)(partial(_grouped, seed, aspects, batch_size, mix))


class Parts(NamedTuple):
    """What one process does of a step: ``accumulate`` micro-batches of ``batch_size`` images."""

    batch_size: int
    accumulate: int


def divide(images_per_step: int, world: int, at_most: int) -> Parts:
    """The fewest equal micro-batches of at most ``at_most`` images in which ``world`` processes do a step.

    Raises:
        DetrkitError: The images cannot be shared evenly.
    """
    share, over = divmod(images_per_step, world)
    if over:
        fitting = [str(count) for count in range(1, images_per_step + 1) if images_per_step % count == 0]
        raise DetrkitError(
            f"{world} processes cannot share the {images_per_step} images of a step evenly: start as many as "
            f"divide {images_per_step} ({', '.join(fitting)})."
        )
    accumulate = next(count for count in range(-(-share // at_most), share + 1) if share % count == 0)
    return Parts(share // accumulate, accumulate)


def step_keys(
    order: Order, num_images: int, step: int, batch_size: int, accumulate: int, rank: int, world: int
) -> list[list[Key]]:
    """The samples of process ``rank`` in one optimiser step: ``accumulate`` micro-batches of ``batch_size``.

    The step covers ``batch_size * accumulate * world`` places of the stream, of which each micro-batch
    takes ``world`` parts in turn, one for every process.
    """
    first = step * batch_size * accumulate * world
    starts = [first + (micro * world + rank) * batch_size for micro in range(accumulate)]
    return [[_key(order, num_images, start + place) for place in range(batch_size)] for start in starts]


def _mix_shards(
    members: list[Int64[np.ndarray, "_"]],
    num_groups: int,
    random: np.random.Generator,
    num_images: int,
) -> Int64[np.ndarray, " images"]:
    """A permutation in which the images of some shards come together. Groups differ by one shard at most."""
    groups = np.array_split(random.permutation(len(members)), num_groups)
    mixed = [random.permutation(np.concatenate([members[one] for one in group])) for group in groups]
    order = np.concatenate(mixed)
    assert len(order) == num_images
    return order


def _shuffled(seed: int, num_images: int, mix: Mix, epoch: int) -> Int64[np.ndarray, " images"]:
    order = mix(np.random.default_rng([seed, epoch]), num_images)
    order.setflags(write=False)
    return order


def _grouped(
    seed: int, aspects: Aspects, batch_size: int, mix: Mix, epoch: int
) -> Int64[np.ndarray, " images"]:
    random, aspects_now = np.random.default_rng([seed, epoch]), aspects(epoch)
    order = mix(random, len(aspects_now))
    begun = -epoch * len(order) % batch_size  # images that complete the last micro-batch of the epoch before
    whole = (len(order) - begun) // batch_size * batch_size
    for first in range(begun, begun + whole, _WINDOW * batch_size):
        window = order[first : min(first + _WINDOW * batch_size, begun + whole)]
        alike = window[np.argsort(aspects_now[window], kind="stable")]
        window[:] = random.permutation(alike.reshape(-1, batch_size)).ravel()
    order.setflags(write=False)
    return order


def _key(order: Order, num_images: int, place: int) -> Key:
    epoch, position = divmod(place, num_images)
    return epoch, int(order(epoch)[position])
