"""NumPy's archives (``.npz``), of which no more memory is taken than their files justify."""

import math
import zlib
from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy

from detrkit.reading import reason, require_file

_ROOM, _RATIO = 1 << 26, 20
"""An archive may unpack to 64 MiB, or to twenty times its own size where that is more.

Curves of COCO's 80 classes take 1.3 MB and of LVIS' 1,203 classes 20 MB, however well they are packed. Larger
ones are mostly packed to a tenth.
"""

_LONGEST = 1 << 40
"""Bytes of an archive: what it may hold follows from its length alone."""

_DAMAGED = (
    BadZipFile,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What zipfile, zlib and numpy raise of damaged or hostile archives."""


def read_npz(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of these names, none of which holds objects; or a ValueError."""
    try:
        require_file(path, _LONGEST)
        room = max(_ROOM, _RATIO * path.stat().st_size)
        with ZipFile(path) as archive:
            for name in names:
                room -= _require_room(archive, f"{name}.npy", room)
            return {name: _read(archive, f"{name}.npy") for name in names}
    except _DAMAGED as error:
        raise ValueError(reason(error)) from None


def _require_room(archive: ZipFile, name: str, room: int) -> int:
    """The bytes of an array, by its header, if they are what the archive has of it and there is room."""
    member = archive.getinfo(name)
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name} is packed as numpy does not pack it")
    if member.file_size > room:
        raise ValueError(f"{name} unpacks to {member.file_size:,} bytes, where {room:,} are the most")
    shape, dtype = _header(archive, member)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which may run anything")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > member.file_size:
        raise ValueError(f"{name} states the shape {shape}, which is more than it has")
    return size


def _header(archive: ZipFile, member: ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(member) as file:
        match npy.read_magic(file):
            case (1, 0):
                shape, _, dtype = npy.read_array_header_1_0(file)
            case (2, 0):
                shape, _, dtype = npy.read_array_header_2_0(file)
            case version:
                raise ValueError(f"version {version} of numpy's format has no place here")
    return shape, dtype


def _read(archive: ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        return npy.read_array(file, allow_pickle=False)
