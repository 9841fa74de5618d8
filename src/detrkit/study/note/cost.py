"""What a full note costs on a GPU, by the model of docs/scaling.md."""

from collections.abc import Mapping
from typing import NamedTuple

from detrkit.study.note.plan import Run
from detrkit.study.note.shares import Trials
from detrkit.tuning.plan import whole_trials

GPU = "A100 SXM"

COCO_IMAGES = 118_287

MINUTES = {"resnet50": 25.7, "resnet101": 35.8}
"""Of an epoch of COCO on one GPU, for DETR with this backbone (docs/scaling.md, the column of 1 GPU)."""


class Cost(NamedTuple):
    """A run's epochs and GPU hours."""

    name: str
    epochs: float
    hours: float


def costs_of(runs: Mapping[str, Run], trials: Trials, train_images: int) -> list[Cost]:
    """What every run costs, and the tuning where there is one.

    Other decoders and the classical detectors were not counted: they are taken for DETR with their backbone,
    and a smaller backbone for ResNet-50.
    """
    found = [_cost(name, run, float(run.amount.steps), train_images) for name, run in runs.items()]
    base = next(run for run in runs.values() if run.role == "smaller")
    if trials.number and any(run.role == "tuned" for run in runs.values()):
        steps = whole_trials(trials.number) * trials.steps
        found.append(_cost(f"{trials.number} trials", base, steps, train_images))
    return found


def _cost(name: str, run: Run, steps: float, train_images: int) -> Cost:
    settings = run.settings
    images = steps * settings.data.batch_size * settings.train.accumulate
    minutes = MINUTES.get(settings.model.backbone.name, MINUTES["resnet50"])
    return Cost(name, images / train_images, images / COCO_IMAGES * minutes / 60)
