"""The user's cache of catalogs, so that large annotations are parsed once and then read in a blink.

A cached file holds the columns of a Catalog as NumPy's ``.npy`` blocks, one after the other, behind three
lines: a checksum of all that follows, the stamp of the annotations (their size and time of change), and the
categories as json. Nothing in it can be executed. It is named after the absolute path of the annotations.
Whatever is stale or damaged is made anew.

It lies in ``$XDG_CACHE_HOME/detrkit``, by default ``~/.cache/detrkit``, and can be deleted at any time. The
environment variable ``DETRKIT_CACHE`` names another folder, or is ``off``.
"""

import logging
import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import fields
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from detrkit.catalog import Catalog, Category

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raise it with every change of what is stored, or of what a format makes of its annotations."""

WORTHWHILE = 4 * 2**20
"""Bytes. Smaller annotations are parsed in some hundredths of a second, and never reach the cache."""

_NO_COLUMNS = ("source", "folder", "categories", "short_side", "shards")
_COLUMNS = [field.name for field in fields(Catalog) if field.name not in _NO_COLUMNS]


def cached(annotations: Path, folder: Path, read: Callable[[Path, Path], Catalog]) -> Catalog:
    """What ``read(annotations, folder)`` gives, taken from the cache unless the annotations changed since.

    Raises:
        DetrkitError: What ``read`` raises; a cache that cannot be used is a warning.
    """
    cache = _cache_folder()
    if cache is None or annotations.stat().st_size < WORTHWHILE:
        return read(annotations, folder)
    file, stamp = cache / _name(annotations), _stamp(annotations)
    catalog = _load(file, stamp, annotations, folder)
    if catalog is None:
        catalog = read(annotations, folder)
        if _stamp(annotations) == stamp:  # else it changed under the reader
            _store(file, stamp, catalog)
    return catalog


def _cache_folder() -> Path | None:
    """Where the cache lies, or None if there is none."""
    chosen = os.environ.get("DETRKIT_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if Path(base).is_absolute() else os.path.expanduser("~/.cache")) / "detrkit"  # noqa: PTH111 it never raises


def _name(annotations: Path) -> str:
    return f"catalog-{sha256(os.fsencode(annotations.resolve())).hexdigest()[:32]}"


def _stamp(annotations: Path) -> bytes:
    """What a cached catalog must agree with."""
    state = annotations.stat()
    return b"format %d, %d bytes, changed at %d ns" % (FORMAT, state.st_size, state.st_mtime_ns)


def _load(file: Path, stamp: bytes, annotations: Path, folder: Path) -> Catalog | None:
    """The catalog in ``file``, or None if it holds none or that of other annotations."""
    try:
        with file.open("rb") as opened:
            checksum, body = opened.readline().strip(), opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        logger.warning("The cached %s cannot be read (%s), so %s is parsed again.", file, error, annotations)
        return None
    if checksum != _checksum(body):
        logger.warning("The cached %s is damaged, so %s is parsed again.", file, annotations)
        return None
    blocks = BytesIO(body)
    if blocks.readline().rstrip() != stamp:
        return None
    categories = msgspec.json.decode(blocks.readline(), type=tuple[Category, ...])
    columns = {name: np.load(blocks, allow_pickle=False) for name in _COLUMNS}
    return Catalog(source=annotations, folder=folder, categories=categories, short_side=None, **columns)


def _store(file: Path, stamp: bytes, catalog: Catalog) -> None:
    """Write a catalog in one rename, so that whoever reads meanwhile finds the old file or the new one."""
    body = BytesIO()
    body.writelines([stamp, b"\n", msgspec.json.encode(catalog.categories), b"\n"])
    for name in _COLUMNS:
        np.save(body, getattr(catalog, name), allow_pickle=False)
    content = body.getbuffer()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, [_checksum(content), b"\n", content])
    except OSError as error:
        logger.warning(
            "The catalog of %s is not cached (%s): set DETRKIT_CACHE to a folder that can be written and has "
            "room, or to off.",
            catalog.source,
            error,
        )


def _replace(file: Path, parts: list[bytes | memoryview]) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as part:
            part.writelines(parts)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _checksum(body: bytes | memoryview) -> bytes:
    return b"%08x" % zlib.crc32(body)
