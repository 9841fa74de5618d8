"""What a benchmark tells as it goes."""

from collections.abc import Callable
from typing import NamedTuple


class Detecting(NamedTuple):
    """An entrant detects on the split: so many of its images are done."""

    name: str
    done: int
    images: int


class Known(NamedTuple):
    """An entrant's accuracy is known, from now or, if ``kept``, from before."""

    name: str
    ap: float
    kept: bool


class Counting(NamedTuple):
    """The multiply-adds of an entrant are being counted."""

    name: str


class Remembering(NamedTuple):
    """The memory of an entrant is being measured, in processes of its own."""

    name: str


class Turn(NamedTuple):
    """A turn of what is timed begins."""

    what: str
    number: int
    turns: int


Progress = Detecting | Known | Counting | Remembering | Turn
Listener = Callable[[Progress], None]
"""Hears what a benchmark does, in order."""
