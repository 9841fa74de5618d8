"""What lies at a path, asked before it is read: a pipe never ends, and a file may be far too long."""

import stat
from pathlib import Path


def require_regular(path: Path) -> int:
    """The length of a file; an OSError for what is none, such as a pipe, whose reading might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    return found.st_size


def read_short_text(path: Path, longest: int) -> str:
    """The text of a file in UTF-8; an OSError for more than ``longest`` bytes, a ValueError for others."""
    length = require_regular(path)
    if length > longest:
        raise OSError(f"it has {length:,} bytes, but no more than {longest:,} are expected")
    return path.read_text("utf-8-sig")


def is_folder(path: Path) -> bool:
    """Whether a folder is there, whatever somebody has written as its name: it may be too long for any."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is there, likewise."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
