"""Files that anybody may have written: their size and types are held against what is expected of them.

Whatever is wrong with a file is an OSError or a ValueError that says so in a few words. Who called knows what
the file was for, and what is to be done.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from detrkit.files import require_regular

MOST = 1 << 26
"""Bytes of a json file at most; read, it takes up to twenty times as much memory."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A number of something, which a float holds exactly."""

Positive = Annotated[int, Meta(ge=1, le=2**53)]

Finite = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""A number that can be reckoned with: sums and squares of such are still numbers."""

Seconds = Annotated[float, Meta(ge=0, le=1e12)]

Name = Annotated[str, Meta(max_length=300)]
"""What stands as a name in charts and tables."""


def require_file(path: Path, most: int = MOST) -> None:
    """An OSError for what is no regular file, such as a pipe, whose reading might never end, or too long."""
    if not path.exists():
        raise OSError("it is not there")
    if (length := require_regular(path)) > most:
        raise OSError(f"it has {length:,} bytes, where at most {most:,} are expected")


def read_json(path: Path, kind: Any, most: int = MOST) -> Any:
    """What a file has, which is of the kind; an OSError or a ValueError where it is not."""
    require_file(path, most)
    return parse_json(path.read_bytes(), kind)


def parse_json(text: bytes, kind: Any) -> Any:
    """The value that a text states, just as it states it; a ValueError where it is not of the kind.

    Halves of surrogate pairs, which no file and no terminal takes, stand there as they are escaped.
    """
    try:
        value = json.loads(text.decode())
        if _HALVES.search(text):
            value = writable_tree(value)
        require_kind(value, kind)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return value


def require_kind(value: object, kind: Any) -> None:
    """A ValueError, naming the place, where a value is not of the kind."""
    try:
        msgspec.convert(value, kind)
    except msgspec.MsgspecError as error:
        raise ValueError(reason(error)) from None


def reason(error: Exception) -> str:
    """What an error says, without its middle where that is long; its name where it says nothing."""
    text = writable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:120]}…{text[-80:]}"


def writable(text: str) -> str:
    """A text with halves of surrogate pairs escaped, as names of files have them that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def writable_tree(value: Any) -> Any:
    """A value of json with all of its texts ``writable``."""
    match value:
        case str():
            return writable(value)
        case list():
            return [writable_tree(one) for one in value]
        case dict():
            return {writable(key): writable_tree(one) for key, one in value.items()}
        case _:
            return value


_HALVES = re.compile(rb"\\u[dD][89a-fA-F]")
