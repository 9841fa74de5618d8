"""What ``run.json`` and the lines of ``log.jsonl`` have, for whoever reads files that others may have made.

What came later than the first release of a file may be missing.
"""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from detrkit.evaluation.stated import Figures
from detrkit.reading import Count, Finite, Name, Seconds

Epoch = Annotated[float, Meta(ge=0, le=1e9)]

Groups = Annotated[dict[Name, float], Meta(max_length=100)]
"""A number of each group of the optimiser."""

Terms = Annotated[
    dict[Name, Annotated[list[float], Meta(min_length=1, max_length=100)]], Meta(max_length=100)
]
"""Losses by name, each with a value of every decoder layer."""


class Header(TypedDict, total=False):
    """``run.json``, as :class:`detrkit.monitoring.header.RunHeader` tells."""

    detrkit: str
    recipe: str | None
    command: str
    folder: str
    commit: str | None
    data: str
    init: str | None
    splits: dict[str, str]
    images: dict[str, Count]
    machine: dict[str, str]
    versions: dict[str, str]
    device: str
    processes: Count
    steps: Count
    images_per_step: Count
    parameters: Count
    trainable_parameters: Count
    notes: list[str]
    started: str
    resumed: list[dict[str, Any]]
    state: str
    ended: str | None
    seconds: Seconds
    peak_memory: Count | None


class Line(TypedDict):
    """Any line of a log."""

    event: str
    step: Count


class Step(Line):
    """What :class:`detrkit.training.events.Stepped` tells. Losses and norms need not be finite."""

    epoch: Epoch
    loss: float
    seconds: Seconds
    data_seconds: Seconds
    terms: NotRequired[Terms]
    gradient_norm: NotRequired[float]
    gradient_norms: NotRequired[Groups]
    update_ratios: NotRequired[Groups | None]
    learning_rates: NotRequired[Groups]
    images: NotRequired[Count]
    images_per_second: NotRequired[float]
    data_share: NotRequired[float]
    memory: NotRequired[Count]


class Skipped(Line):
    """What :class:`detrkit.training.events.Skipped` tells."""

    what: str
    reason: str
    number: Count
    allowed: Count


class Validation(Line):
    """What :class:`detrkit.training.events.Validated` tells."""

    epoch: Epoch
    metrics: Figures
    seconds: NotRequired[Seconds]
    kept: NotRequired[bool]
    raw: NotRequired[Figures | None]
    raw_seconds: NotRequired[Seconds]
    matched: NotRequired[list[list[Annotated[int, Meta(ge=-1, le=2**53)]]]]
    unread: NotRequired[list[str]]


class Interrupted(Line):
    """What :class:`detrkit.training.events.Interrupted` tells."""

    out: NotRequired[str]
    signal: NotRequired[int]


class Finished(Line):
    """What :class:`detrkit.training.events.Finished` tells."""

    reason: NotRequired[str]
    best_ap: NotRequired[Finite]
    best_step: NotRequired[Count]
    out: NotRequired[str]


class Failed(Line):
    """What ended a run after its last step."""

    error: str


KINDS: dict[object, type] = {
    "step": Step,
    "skipped": Skipped,
    "validation": Validation,
    "interrupted": Interrupted,
    "finished": Finished,
    "failed": Failed,
}
"""The lines by their events; others are of a later version."""
