"""What is known of a run when it is diagnosed: plain numbers that can be saved and judged again.

Every ailment is a function of ``Facts`` alone. A part that is not known is None or empty, and then no ailment
that needs it is named.
"""

from typing import Any, Literal

import msgspec

from detrkit.monitoring.instability import Instability

Terms = dict[str, list[float]]
"""Losses by name, each with a value for every decoder layer; the last is the network's answer."""


class Stretch(msgspec.Struct, frozen=True):
    """A piece of the log as medians over its steps, of which ``last`` is the last.

    ``norm`` is the gradient's before clipping. ``ratios`` are how far an update moved each group of
    parameters, relative to its weights; ``waiting`` is the share of the time that went by without data.
    """

    last: int
    loss: float
    terms: Terms
    norm: float
    ratios: dict[str, float]
    rates: dict[str, float]
    waiting: float


class Checkup(msgspec.Struct, frozen=True):
    """A validation: the AP and AP50 of what is kept, and the AP of the weights that it is the average of.

    ``instability`` is how the matching of a few training images changed since the validation before.
    """

    step: int
    ap: float
    ap50: float
    raw_ap: float | None = None
    instability: Instability | None = None


class Course(msgspec.Struct, frozen=True):
    """How training went. ``steps`` is the length that was planned, ``error`` what ended it before.

    A step sees so many ``images``, of all processes; 0 where the log does not say.
    """

    steps: int
    first_loss: float
    stretches: list[Stretch]
    checkups: list[Checkup]
    error: str = ""
    images: int = 0

    @property
    def progress(self) -> float:
        """The fraction of the planned steps that are done."""
        return self.stretches[-1].last / max(self.steps, 1) if self.stretches else 0.0

    @property
    def best_ap(self) -> float:
        """The highest AP of a validation; 0 before the first."""
        return max((checkup.ap for checkup in self.checkups), default=0.0)


class Splits(msgspec.Struct, frozen=True):
    """What the annotations alone say, of both splits together or of (train, val).

    ``beyond`` is the share of the training objects that are more than their image has queries for. ``shares``
    are those of the classes. ``distinct`` is the share of the training images, of those that were looked at,
    that no other one equals byte for byte but for the first; None where no file was opened. ``findings`` are
    sentences of the check's errors and warnings, by the names of their faults.
    """

    images: tuple[int, int]
    most_objects: int
    mean_objects: float
    beyond: float
    shares: tuple[list[float], list[float]]
    mean_boxes: tuple[list[float], list[float]]
    findings: dict[str, str]
    distinct: float | None = None


class Answers(msgspec.Struct, frozen=True):
    """The best validation's detections beside the truth: of an image with N objects, the N best.

    ``fits[name]`` is the mean over objects of the highest IoU with a detection, whatever their classes, once
    the true boxes are mistaken in the way of that name; ``as they are`` is without a mistake.
    ``confusion[i][j]`` counts objects of class ``i`` whose place was found as class ``j``. ``shares`` are
    those of the classes.
    """

    images: int
    objects: int
    fits: dict[str, float]
    confusion: list[list[int]]
    shares: list[float]


class Probe(msgspec.Struct, frozen=True):
    """What the kept model does with a few images, unaugmented, on the way that evaluation takes.

    Of (train, val): the unweighted ``terms``, the ``pixels`` as (mean, deviation) of what the network is
    given, the ``objects`` of an image and the ``sure`` answers of it. Over the validation images: in which
    share of them each query is sure (``usage``), and how far a query's box moves from image to image relative
    to how far the objects lie apart (``spread``, a deviation over a deviation).
    """

    images: tuple[int, int]
    terms: tuple[Terms, Terms]
    pixels: tuple[tuple[float, float], tuple[float, float]]
    objects: tuple[float, float]
    sure: tuple[float, float]
    usage: list[float]
    spread: float | None


class Facts(msgspec.Struct, frozen=True):
    """All that is known of a run. ``missing`` says in sentences what is not, and why."""

    settings: dict[str, Any]
    """Every setting under its dotted name."""
    parameters: tuple[int, int]
    """(trainable, all)."""
    state: Literal["running", "interrupted", "finished", "failed"]
    course: Course
    splits: Splits | None = None
    answers: Answers | None = None
    probe: Probe | None = None
    missing: list[str] = []
    trained_before: bool = False
    """Whether the run starts from the weights of another."""

    def number(self, name: str, otherwise: float = 0.0) -> float:
        """A setting that is a number."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, int | float) else otherwise


def to_json(facts: Facts) -> bytes:
    """The facts with four significant digits, which is more than any judgement needs."""
    return msgspec.json.encode(_rounded(msgspec.to_builtins(facts)))


def from_json(text: bytes) -> Facts:
    """Facts that ``to_json`` wrote; msgspec.ValidationError where they are of another version."""
    return msgspec.json.decode(text, type=Facts)


def _rounded(value: object) -> object:
    match value:
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [_rounded(one) for one in value]
        case float():
            return float(f"{value:.4g}")
        case _:
            return value
