"""What a benchmark found, and the file ``results.json`` that keeps it.

Times are seconds, sizes bytes. None stands where there is nothing to measure.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from detrkit.errors import DetrkitError

Precision = Literal["fp32", "bf16"]
Kind = Literal["weights", "recipe", "onnx", "detections"]

FILE = "results.json"


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Entrants take ``turns``; in each of them, each looks at ``images`` images of the split, one at a time and
    after one that does not count, and at one batch of each of ``batches``. Multiply-adds are counted at each
    of ``sizes`` (height, width). A training step sees ``training_batch`` images. No turns, no batches, no
    sizes, no ``training_batch`` or no ``memory`` leave these costs out.
    """

    turns: int = 7
    images: int = 4
    batches: tuple[int, ...] = (1, 2, 4, 8)
    sizes: tuple[tuple[int, int], ...] = ((800, 1137),)
    training_batch: int = 2
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    memory: bool = True


@dataclass(frozen=True)
class Spread:
    """The median over turns, and the lowest and the highest of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassAccuracy:
    """The figures of one class, -1 where it has no objects, and how many objects it has."""

    AP: float
    AP50: float
    APs: float
    APm: float
    APl: float
    objects: int


@dataclass(frozen=True)
class Against:
    """AP less that of the reference on the same images: its 95 % interval, and how often it is above 0."""

    value: float
    low: float
    high: float
    above: float


@dataclass(frozen=True)
class Accuracy:
    """COCO's 12 figures by their names, those of each class, and the 95 % interval of AP.

    ``against`` is None for the reference itself. ``objects`` are those of the split, crowds aside.
    """

    figures: dict[str, float]
    low: float
    high: float
    against: Against | None
    per_class: dict[str, ClassAccuracy]
    detections: int


@dataclass(frozen=True)
class Stages:
    """Mean seconds of an image, one at a time: they add up to the mean of the whole.

    Preprocessing reads, decodes and resizes the file. The network's part begins with its bytes, and
    post-processing is what follows the last layer with weights. It is None where a network's end is not
    known; ``network`` then holds both.
    """

    preprocessing: float
    network: float
    postprocessing: float | None

    @property
    def whole(self) -> float:
        """From the file to the detections."""
        return self.preprocessing + self.network + (self.postprocessing or 0.0)


@dataclass(frozen=True)
class Speed:
    """In one precision. ``p50``, ``p95``: from an image's file to its detections, one at a time.

    ``turns`` is the median of a turn. ``throughput`` is images per second by the size of the batch, without
    preprocessing, which runs beside it; a batch for which the memory did not suffice is left out.
    """

    p50: float
    p95: float
    turns: Spread
    stages: Stages
    throughput: dict[int, Spread]

    @property
    def best_batch(self) -> int | None:
        """The batch with the highest throughput."""
        found = self.throughput
        return max(found, key=lambda batch: found[batch].median) if found else None


@dataclass(frozen=True)
class Memory:
    """The most memory that answering one image took, by precision, and a training step in the first one.

    On a CPU it is by how much a process of its own grew at most, libraries aside. ``failed`` says why one of
    them is not known, such as for want of memory.
    """

    inference: dict[str, int]
    training: int | None
    failed: str = ""


@dataclass(frozen=True)
class Cost:
    """What a network is. ``multiply_adds`` of one image by size, such as ``800x1137``.

    ``bytes`` are those of the file of weights, or for a recipe what they would be.
    """

    parameters: int | None
    trainable: int | None
    bytes: int
    multiply_adds: dict[str, int]


@dataclass(frozen=True)
class Row:
    """All about one entrant. ``training`` is images per second by precision."""

    name: str
    kind: Kind
    source: str
    image_size: str
    accuracy: Accuracy | None
    cost: Cost | None
    speed: dict[str, Speed]
    memory: Memory | None
    training: dict[str, Spread]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """The whole. ``reference`` is the entrant that others' accuracy is compared with, if any has one."""

    command: str
    data: str
    split: str
    images: int
    objects: int
    classes: int
    date: str
    device: str
    machine: dict[str, str]
    effort: Effort
    reference: str | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def row(self, name: str) -> Row:
        """The row of an entrant."""
        return next(row for row in self.rows if row.name == name)


def write_results(results: Results, out: Path) -> None:
    """Write ``results.json``, at once."""
    unfinished = out / f".{FILE}.unfinished"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    unfinished.replace(out / FILE)


def read_results(out: Path) -> Results:
    """What ``write_results`` wrote into this folder.

    Raises:
        DetrkitError: It is not there, or not readable.
    """
    path = out / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.MsgspecError) as error:
        raise DetrkitError(f"{path}: no benchmark can be read there ({error}): run it again.") from None
