"""What a note tells as it goes, besides the events of its runs."""

from collections.abc import Callable
from typing import NamedTuple

from detrkit.benchmark.events import Progress
from detrkit.study.events import Diverged, Measuring
from detrkit.study.note.plan import Plan
from detrkit.training.events import Event
from detrkit.tuning.worker import Begun, Ended, Waiting


class Planned(NamedTuple):
    """What will be done is known; ``done`` steps of the note are over."""

    plan: Plan
    done: int


class Began(NamedTuple):
    """A step of the note begins; ``number`` counts from 1."""

    number: int
    of: int
    title: str


class Judging(NamedTuple):
    """A run is evaluated on the validation split."""

    name: str


Told = Event | Measuring | Planned | Began | Judging | Diverged | Begun | Ended | Waiting | Progress

Listener = Callable[[Told], None]
"""Hears every event of a note, in order."""
