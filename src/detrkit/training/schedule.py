"""How long a run is, and the learning rate as a function of the step."""

import math
from typing import NamedTuple

from detrkit.settings.training import ScheduleSettings, TrainSettings


class Length(NamedTuple):
    """The steps of a run, and what a step sees."""

    steps: int
    images_per_step: int
    num_images: int

    def epoch(self, step: int) -> float:
        """How often every image was seen after ``step`` steps."""
        return step * self.images_per_step / self.num_images


def plan(settings: TrainSettings, num_images: int, images_per_step: int) -> Length:
    """The length of a run that sees every image ``epochs`` times, or of ``max_steps``.

    The last step is filled up with the first images of the epoch that would follow.
    """
    steps = settings.max_steps or math.ceil(settings.epochs * num_images / images_per_step)
    return Length(steps, images_per_step, num_images)


def validates(length: Length, step: int, every: float) -> bool:
    """Whether a validation follows step number ``step`` (from 1): at the end, or every so many epochs."""
    finished = [math.floor(length.epoch(number) / every) for number in (step - 1, step)]
    return step == length.steps or finished[0] < finished[1]


def rate_factor(settings: ScheduleSettings, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in step number ``step`` (from 0) of ``steps``."""
    warm = settings.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 1.0 if step < settings.drop_at * steps else settings.drop_factor
