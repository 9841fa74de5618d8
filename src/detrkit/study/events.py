"""What a study tells as it goes, besides the events of its runs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from detrkit.study.plan import Plan
from detrkit.training.events import Event


class Measuring(NamedTuple):
    """The step time of a recipe is being measured."""

    recipe: str


class Planned(NamedTuple):
    """What will be done is known."""

    plan: Plan


class Diverged(NamedTuple):
    """A run ended early, since its loss was not finite; the study goes on."""

    folder: Path
    reason: str


RunListener = Callable[[Event | Diverged], None]
"""Hears every event of a run, in order."""

Listener = Callable[[Event | Measuring | Planned | Diverged], None]
"""Hears every event of a study, in order."""
