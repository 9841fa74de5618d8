"""TOML of anybody: read in time and memory by its length, and refused with one kind of error."""

import re
import tomllib
from pathlib import Path
from typing import Any

from detrkit.files import read_short_text

LONGEST = 2**20
"""Bytes, a hundred times what all settings take. Python's reader takes up to some 300 times as many."""

DEEPEST = 8
"""Parts of a dotted key, of which that reader keeps every beginning; settings have four at most."""

_QUOTED = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}+(?!"))*+(?:"{3,5}+|\Z)'
    r"|'''(?:[^']++|'{1,2}+(?!'))*+(?:'{3,5}+|\Z)"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+",
    re.DOTALL,
)
"""Strings of all four kinds, and comments, also unfinished ones."""

_TOO_DEEP = re.compile(rf"(?:\.[ \t]*+[\w-]++[ \t]*+){{{DEEPEST}}}", re.ASCII)


class NotTomlError(ValueError):
    """A text is no TOML, or none that settings could need; it says why."""


def parse_toml(text: str) -> dict[str, Any]:
    """The tree of a text.

    Raises:
        NotTomlError: Its syntax, its length, the parts of a key, or how deep it is nested.
    """
    if len(text) > LONGEST:
        raise NotTomlError(f"it has {len(text):,} characters, but no more than {LONGEST:,} are expected")
    if _TOO_DEEP.search(_QUOTED.sub("s", text)):
        raise NotTomlError(f"a key has more than {DEEPEST} parts with dots between them")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotTomlError(str(error)) from None


def read_toml(file: Path) -> dict[str, Any]:
    """The tree of a file in UTF-8.

    Raises:
        NotTomlError: As of ``parse_toml``.
        OSError: It cannot be read, is no regular file, or is too long.
        UnicodeDecodeError: It is not UTF-8.
    """
    return parse_toml(read_short_text(file, LONGEST))
