"""The bytes of images out of shards, in any order and by any number of processes."""

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from detrkit.catalog import Catalog, Shards
from detrkit.errors import DetrkitError
from detrkit.files import require_regular

OPEN = 64
"""Shards that a process holds open at most."""


class _Opened(NamedTuple):
    """A shard's file, and the bytes that it had when it was opened."""

    descriptor: int
    size: int


class OpenShards:
    """The shards of a catalog, each opened by a process when it first needs it.

    Every read says where it starts, so that forked processes may share an open file. A copy in a process that
    was not forked opens its own.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        """By the number of the shard, the one used last at the end."""

    def read(self, index: int) -> bytes | None:
        """The file of image number ``index`` as it was put into a shard, or None if there are no shards.

        Raises:
            DetrkitError: The shard cannot be read, or does not hold what its index says.
        """
        shards = self._catalog.shards
        if shards is None:
            return None
        length = int(shards.lengths[index])
        try:
            content = self._read(shards, int(shards.shard[index]), int(shards.offsets[index]), length)
        except OSError as error:
            raise self._fault(index, error.strerror or str(error)) from None
        if len(content) < length:
            raise self._fault(index, f"the shard ends after {len(content):,} of its {length:,} bytes")
        if zlib.crc32(content) != shards.checksums[index]:
            raise self._fault(index, f"its {length:,} bytes are not those that were put there")
        return content

    def _read(self, shards: Shards, shard: int, start: int, length: int) -> bytes:
        (descriptor, size), parts = self._open(shard, self._catalog.folder / shards.files[shard]), []
        length = min(length, size - start)  # pread makes room for all that it is asked for
        while length > 0 and (part := os.pread(descriptor, length, start)):
            parts.append(part)
            start, length = start + len(part), length - len(part)
        return b"".join(parts)

    def _open(self, shard: int, file: Path) -> _Opened:
        if shard not in self._opened:
            while len(self._opened) >= OPEN:
                os.close(self._opened.popitem(last=False)[1].descriptor)
            require_regular(file)
            descriptor = os.open(file, os.O_RDONLY)
            self._opened[shard] = _Opened(descriptor, os.fstat(descriptor).st_size)
        self._opened.move_to_end(shard)
        return self._opened[shard]

    def _fault(self, index: int, reason: str) -> DetrkitError:
        return DetrkitError(
            f"the image {self._catalog.place(index)} cannot be read from its shard: {reason}; copy the shard "
            "again, or delete it and run detrkit data shards again."
        )

    def __getstate__(self) -> Catalog:
        return self._catalog

    def __setstate__(self, catalog: Catalog) -> None:
        self.__init__(catalog)

    def __del__(self) -> None:
        for opened in self._opened.values():
            os.close(opened.descriptor)
