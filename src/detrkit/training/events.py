"""What a run tells as it goes. The loop yields these and knows none of its listeners."""

from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Literal, NamedTuple

from detrkit.evaluation.coco import Metrics
from detrkit.settings.experiment import Experiment
from detrkit.training.schedule import Length
from detrkit.weights.transfer import Row


class Started(NamedTuple):
    """The run is set up; ``step`` steps of its ``length`` are done where it was resumed.

    ``origins`` says where each tensor is from, if the run starts from another detector's weights.
    ``validation_due`` says that the validation after ``step`` was begun and is to be done again.
    """

    step: int
    length: Length
    val_images: int
    trainable_parameters: int
    parameters: int
    device: str
    processes: int
    experiment: Experiment
    out: Path
    notes: list[str]
    origins: Sequence[Row] = ()
    validation_due: bool = False


class Stepped(NamedTuple):
    """An optimiser step is done; ``step`` counts from 1, ``epoch`` is how often every image was seen.

    Terms are unweighted and have one value per decoder layer. Gradient norms are before clipping, of all
    parameters and of each group of the optimiser. The update ratio of a group is the norm of its change over
    its norm before; None in steps that do not measure it. Times are seconds of this step, and how much of it
    was spent waiting for data. ``memory`` is in bytes, of this process: the most that its tensors took on a
    CUDA device so far, or else its resident memory now.
    """

    step: int
    epoch: float
    loss: float
    terms: dict[str, list[float]]
    gradient_norm: float
    gradient_norms: dict[str, float]
    update_ratios: dict[str, float] | None
    learning_rates: dict[str, float]
    images: int
    seconds: float
    data_seconds: float
    memory: int

    @property
    def images_per_second(self) -> float:
        """Of all processes, in this step."""
        return self.images / self.seconds

    @property
    def data_share(self) -> float:
        """The fraction of this step that was spent waiting for data."""
        return self.data_seconds / self.seconds


class Skipped(NamedTuple):
    """An image was replaced by another, or a step left out, in ``step``, since ``reason``.

    It is number ``number`` of the ``allowed`` different images, or of the steps, since the run began. A step
    that is left out has no ``Stepped``.
    """

    step: int
    what: Literal["image", "step"]
    reason: str
    number: int
    allowed: int


class Validated(NamedTuple):
    """The model was evaluated after ``step``; ``kept`` says that none was better, so it is kept.

    Where a moving average is what was evaluated, ``raw`` has the figures of the weights themselves, unless
    `train.validate_raw` is off; ``seconds`` has the time of both, and ``raw_seconds`` what these took of it.
    ``matched`` has, for each of a few training images, which are always the same, the query that the weights
    match with each object (-1 where there is none); it is empty where a detector matches nothing. ``unread``
    says of each image of the split that could not be read why: all of its objects count as not found.
    """

    step: int
    epoch: float
    metrics: Metrics
    kept: bool
    seconds: float
    raw: Metrics | None = None
    raw_seconds: float = 0.0
    matched: Sequence[Sequence[int]] = ()
    unread: Sequence[str] = ()


class Interrupted(NamedTuple):
    """The run was asked to stop by ``signal``, and has saved its state after ``step``."""

    step: int
    out: Path
    signal: Signals = SIGTERM


class Finished(NamedTuple):
    """The run is over. ``best_ap`` is that of ``out/model.safetensors``."""

    step: int
    best_ap: float
    best_step: int
    reason: str
    out: Path


Event = Started | Stepped | Skipped | Validated | Interrupted | Finished
