"""What a run tells as it goes. The loop yields these and knows none of its listeners."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detrkit.evaluation.coco import Metrics
from detrkit.settings.experiment import Experiment
from detrkit.training.schedule import Length
from detrkit.weights.transfer import Row


class Started(NamedTuple):
    """The run is set up; ``step`` steps of its ``length`` are done where it was resumed.

    ``origins`` says where each tensor is from, if the run starts from another detector's weights.
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


class Stepped(NamedTuple):
    """An optimiser step is done; ``step`` counts from 1, ``epoch`` is how often every image was seen.

    Terms are unweighted and have one value per decoder layer. The gradient norm is before clipping.
    Times are seconds of this step, and how much of it was spent waiting for data.
    """

    step: int
    epoch: float
    loss: float
    terms: dict[str, list[float]]
    gradient_norm: float
    learning_rates: dict[str, float]
    seconds: float
    data_seconds: float


class Validated(NamedTuple):
    """The model was evaluated after ``step``; ``kept`` says that none was better, so it is kept."""

    step: int
    epoch: float
    metrics: Metrics
    kept: bool
    seconds: float


class Interrupted(NamedTuple):
    """The run was asked to stop and has saved its state after ``step``."""

    step: int
    out: Path


class Finished(NamedTuple):
    """The run is over. ``best_ap`` is that of ``out/model.safetensors``."""

    step: int
    best_ap: float
    best_step: int
    reason: str
    out: Path


Event = Started | Stepped | Validated | Interrupted | Finished
