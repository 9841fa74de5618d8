"""Which image comes into which shard, and where: known before anything is written."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog
from detrkit.data.shards.sample import BLOCK, describe, length_of, padded


class Limits(NamedTuple):
    """The most bytes, unless one image has more, and the most images of a shard."""

    bytes: int
    images: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What each shard of a split will be.

    Image ``i`` comes into shard ``shard[i]``, and is the ``lengths[i]`` bytes from ``offsets[i]`` on there.
    """

    catalog: Catalog
    members: list[Int64[np.ndarray, "_"]]
    """The images of each shard, in the order that they have there."""
    files: list[str]
    sizes: list[int]
    """Bytes of each shard."""
    shard: Int64[np.ndarray, " images"]
    offsets: Int64[np.ndarray, " images"]
    lengths: Int64[np.ndarray, " images"]


def plan_shards(catalog: Catalog, split: str, limits: Limits, seed: int) -> Plan:
    """Shards filled one after the other with the images in the order of a permutation by ``seed``."""
    lengths = np.array([catalog.path(index).stat().st_size for index in range(len(catalog))], np.int64)
    shard, offsets = np.zeros_like(lengths), np.zeros_like(lengths)
    members: list[list[int]] = []
    ends: list[int] = []
    for index in np.random.default_rng(seed).permutation(len(catalog)).tolist():
        needed = 2 * BLOCK + padded(int(lengths[index])) + padded(len(describe(catalog, index)))
        if not members or len(members[-1]) == limits.images or length_of(ends[-1] + needed) > limits.bytes:
            members.append([])
            ends.append(0)
        shard[index], offsets[index] = len(members) - 1, ends[-1] + BLOCK
        members[-1].append(index)
        ends[-1] += needed
    return Plan(
        catalog=catalog,
        members=[np.array(one, np.int64) for one in members],
        files=[f"{split}-{number:06d}.tar" for number in range(len(members))],
        sizes=[length_of(end) for end in ends],
        shard=shard,
        offsets=offsets,
        lengths=lengths,
    )
