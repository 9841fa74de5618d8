"""One shard: written in one rename, or found to be there already."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from detrkit.data.shards.plan import Plan
from detrkit.data.shards.sample import BLOCK, members_of, padded
from detrkit.errors import DetrkitError


def write_shard(
    plan: Plan, number: int, file: Path, advance: Callable[[int], None]
) -> Int64[np.ndarray, " members"]:
    """Write a shard and return the CRC-32 of its images; ``advance`` is told the bytes as they come."""
    part, checksums = file.with_name(f".{file.name}.part"), []
    try:
        with part.open("wb") as opened:
            for index in plan.members[number].tolist():
                content = _content(plan, index)
                checksums.append(zlib.crc32(content))
                advance(_write_sample(opened, plan, index, content))
            opened.write(bytes(plan.sizes[number] - opened.tell()))
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return np.array(checksums, np.int64)


def read_back(plan: Plan, number: int, file: Path) -> Int64[np.ndarray, " members"] | None:
    """The CRC-32 of the images in a shard that was written earlier, or None if it holds anything else."""
    checksums = []
    with file.open("rb") as opened:
        for index in plan.members[number].tolist():
            members = members_of(plan.catalog, index, int(plan.lengths[index]))
            content = _held(opened, members.image, int(plan.lengths[index]))
            if (
                content is None
                or _held(opened, members.annotations, len(members.described)) != members.described
            ):
                return None
            checksums.append(zlib.crc32(content))
    return np.array(checksums, np.int64)


def _content(plan: Plan, index: int) -> bytes:
    path, expected = plan.catalog.path(index), plan.lengths[index]
    content = path.read_bytes()
    if len(content) != expected:
        raise DetrkitError(
            f"the image {path} had {expected:,} bytes and now has {len(content):,}: run the same command "
            "again when nothing changes the images."
        )
    return content


def _write_sample(opened: BinaryIO, plan: Plan, index: int, content: bytes) -> int:
    """Write a sample, and return how many bytes it takes up."""
    members = members_of(plan.catalog, index, len(content))
    begin = opened.tell()
    for header, held in ((members.image, content), (members.annotations, members.described)):
        opened.write(header)
        opened.write(held)
        opened.write(bytes(padded(len(held)) - len(held)))
    return opened.tell() - begin


def _held(opened: BinaryIO, header: bytes, length: int) -> bytes | None:
    """What the next member of a shard holds, or None if it is another one."""
    if opened.read(BLOCK) != header:
        return None
    return opened.read(padded(length))[:length]
