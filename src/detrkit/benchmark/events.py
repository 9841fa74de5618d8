"""What a benchmark tells as it goes."""

from collections.abc import Callable
from typing import NamedTuple


class Detecting(NamedTuple):
    """An entrant detects on the split: so many of its images are done."""

    name: str
    done: int
    images: int


class Known(NamedTuple):
    """An entrant's accuracy is known, from now or, if ``kept``, from detections that were there."""

    name: str
    ap: float
    kept: bool


class Counting(NamedTuple):
    """What an entrant's network is, is being counted."""

    name: str


class Remembering(NamedTuple):
    """The memory that networks take is being measured."""


class Turn(NamedTuple):
    """A turn of what is timed begins; turn 0 is to warm up."""

    what: str
    number: int
    turns: int


Progress = Detecting | Known | Counting | Remembering | Turn

Listener = Callable[[Progress], None]
"""Hears what a benchmark does, in order."""
