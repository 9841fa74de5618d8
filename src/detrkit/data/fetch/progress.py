"""How far a part of a dataset is, told to whoever shows it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

Stage = Literal["fetching", "checking", "extracting"]


class Progress(NamedTuple):
    """``done`` of ``total`` bytes of one stage; ``done`` starts again where a transfer had to."""

    part: str
    stage: Stage
    done: int
    total: int


Watch = Callable[[Progress], None]
"""Is called from several threads. What it raises ends the work, which keeps what it has."""
