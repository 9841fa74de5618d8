"""The order in which images are seen, as a function of the seed and the step alone.

All epochs form one endless stream: a permutation of the images, then another. An optimiser step takes
the next part of it, across the end of an epoch if need be, so that no image is dropped, every process
has equal work, and neither their number nor that of the micro-batches changes which images a step sees.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

Key = tuple[int, int]
"""(epoch, index of the image): names one sample of all that a dataset can give."""


@lru_cache(maxsize=4)
def image_order(seed: int, epoch: int, num_images: int) -> Int64[np.ndarray, " images"]:
    """The order of all images in one epoch. Read-only, since it is shared."""
    order = np.random.default_rng([seed, epoch]).permutation(num_images)
    order.setflags(write=False)
    return order


def step_keys(
    seed: int, num_images: int, step: int, batch_size: int, accumulate: int, rank: int, world: int
) -> list[list[Key]]:
    """The samples of process ``rank`` in one optimiser step: ``accumulate`` micro-batches of ``batch_size``.

    The step covers ``batch_size * accumulate * world`` places of the stream, of which each micro-batch
    takes ``world`` parts in turn, one for every process.
    """
    first = step * batch_size * accumulate * world
    starts = [first + (micro * world + rank) * batch_size for micro in range(accumulate)]
    return [[_key(seed, num_images, start + place) for place in range(batch_size)] for start in starts]


def _key(seed: int, num_images: int, place: int) -> Key:
    epoch, position = divmod(place, num_images)
    return epoch, int(image_order(seed, epoch, num_images)[position])
