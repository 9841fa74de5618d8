"""Which names, as files of others state them, can be used: of files, and of classes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from detrkit.errors import DetrkitError, shown

_LONGEST = 1024
_LONGEST_PART = 255
"""Bytes, the most that usual file systems allow."""
_SMALL = 64 * 2**20
"""Bytes that any column of names may take."""
_GROWTH = 4
"""How many times the size of its source a larger one may take."""


def is_writable(name: str) -> bool:
    """Whether UTF-8 has all characters of a name, which is what files are written in.

    It has none for half of a surrogate pair, which JSON and YAML can state as an escape.
    """
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def require_writable(names: Iterable[str], source: Path) -> None:
    """Raise a DetrkitError unless all names ``is_writable``: those on a disk may be of any bytes."""
    for name in names:
        if not is_writable(name):
            raise DetrkitError(
                f"{source}: the name {shown(name)} is no valid Unicode, as which it would be written down: "
                "rename that file or folder."
            )


def stays_inside(name: str) -> bool:
    """Whether a file's name is relative, does not climb out of its folder, and is no longer than can be.

    Longer ones would also widen a whole column of names, see ``column``.
    """
    parts = name.replace("\\", "/").split("/")
    return (
        parts[0] != ""
        and not parts[0].endswith(":")
        and ".." not in parts
        and "\0" not in name
        and len(name) <= _LONGEST
        and all(len(part.encode("utf-8", "surrogatepass")) <= _LONGEST_PART for part in parts)
    )


def column(names: list[str], source: Path, size: int) -> Shaped[np.ndarray, " names"]:
    """Names as an array, in which each takes as much as the longest, four bytes for every character.

    Raises:
        DetrkitError: A few long ones would make it far larger than the ``size`` of what states them.
    """
    longest = max(names, key=len, default="")
    taken = 4 * len(longest) * len(names)
    if taken > max(_SMALL, _GROWTH * size):
        raise DetrkitError(
            f"{source} has the file name {shown(longest)} of {len(longest):,} characters, as wide as which "
            f"{len(names):,} names would take {taken:,} bytes of memory, but no more than {_SMALL:,} or "
            f"{_GROWTH} times the dataset's size are expected: give that file a shorter name."
        )
    return np.array(names)
