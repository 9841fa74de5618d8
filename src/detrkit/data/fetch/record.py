"""What was put into a folder, by which a later run knows what is missing or damaged there.

A record is one json file. It is written last, so all files that it names were complete at its own time of
change: those that changed since are compared by their checksum, the others by their size alone.
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from detrkit.data.fetch.extract import Content, holds
from detrkit.errors import DetrkitError


def write_record(file: Path, contents: dict[str, Content]) -> None:
    """Keep what the files of a folder hold, by name."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(msgspec.json.encode(contents))
    part.replace(file)


def read_record(file: Path) -> dict[str, Content]:
    """What was written; empty if nothing was.

    Raises:
        DetrkitError: The file is something else.
    """
    if not file.exists():
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Content])
    except msgspec.DecodeError as error:
        raise DetrkitError(f"{file} is no record of what was fetched ({error}): delete it.") from None


def find_damage(folder: Path, file: Path, names: Collection[str]) -> list[str]:
    """Those of ``names`` that are missing in ``folder``, or not what the record in ``file`` says."""
    contents, written = read_record(file), file.stat().st_mtime_ns
    damaged = [name for name in names if not _is_right(folder / name, contents[name], written)]
    if not damaged and len(names) == len(contents):
        with suppress(OSError):  # on a disk that cannot be written, they are read every time
            file.touch()  # what changed before needs not be read again
    return damaged


def _is_right(path: Path, content: Content, written: int) -> bool:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if state.st_mtime_ns < written:
        return state.st_size == content.size
    return holds(path, content)
