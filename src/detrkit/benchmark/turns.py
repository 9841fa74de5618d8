"""Who is measured when: in turns, so that no entrant has the machine at another time than the others.

A machine changes its pace while others use it, or as it gets warm. So all are measured once before any is
measured again, each turn begins with another, and what is told is the median over turns and its range.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TypeVar

from detrkit.benchmark.events import Listener, Turn
from detrkit.benchmark.results import Spread

Member = TypeVar("Member")


def in_turns(
    what: str, members: Sequence[Member], turns: int, listener: Listener
) -> Iterator[tuple[int, Member]]:
    """(turn, member) in the order of measuring; turn -1 is to warm up and does not count."""
    for turn in range(-1, turns) if turns else ():
        listener(Turn(what, turn + 1, turns))
        first = turn % len(members) if members else 0
        for member in [*members[first:], *members[:first]]:
            yield turn, member


def spread(values: Sequence[float]) -> Spread:
    """Of one value per turn."""
    return Spread(median(values), min(values), max(values))
