"""What is read, and how images are augmented and batched.

The defaults are the published DETR recipe (Carion et al. 2020, appendix A.4).
"""

from typing import Annotated

from pydantic import Field, model_validator

from detrkit.settings.section import Count, CountOrZero, Section

Probability = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=2**14)]
"""Of an image, in pixels. A larger one than that fills the memory."""


class DataSettings(Section):
    """Splits, batches, and the sizes of images."""

    train_split: str = ""
    """Split to train on. Empty: `train2017` or `train`, whichever the dataset has."""
    val_split: str = ""
    """Split to validate on. Empty: `val2017` or `val`, whichever the dataset has."""
    batch_size: Count = 2
    """Images that a process has in a forward pass. A step has batch_size x train.accumulate x processes, with
    the processes that began the run: resumed on others, it keeps that number, in smaller or more passes."""
    workers: CountOrZero = 2
    """Processes that load images; 0 loads them in the training process."""
    max_skipped_images: CountOrZero = 0
    """How many different images that cannot be read a run may skip; 0 stops it at the first. In training, the
    next image of the dataset stands in for one. In a validation, which may skip as many, its objects count as
    not found, and the figures say so."""
    group_by_aspect: bool = False
    """Whether images shown at nearly one aspect ratio share a training batch, which then is padded less."""
    shards_at_once: CountOrZero = 8
    """How many shards, of a dataset in shards, are mixed at a time; 0 mixes all, as if they were files."""
    reduced_decoding: bool = True
    """Whether training reads a JPEG at 1/2, 1/4 or 1/8 of its size where it needs no more pixels."""
    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    short_sides: tuple[Side, ...] = Field(default=tuple(range(480, 801, 32)), min_length=1)
    """A training image's shorter side is resized to one of these, in pixels."""
    max_size: Side = 1333
    """No image is resized to a longer side above this, in pixels, in training and evaluation."""
    crop_probability: Probability = 0.5
    """Probability that a training image is cropped before it is resized."""
    crop_short_sides: tuple[Side, ...] = Field(default=(400, 500, 600), min_length=1)
    """Before a crop, the shorter side is resized to one of these, in pixels."""
    crop_sides: tuple[Side, Side] = (384, 600)
    """Smallest and largest side of a crop, in pixels."""
    eval_short_side: Side = Field(default_factory=lambda given: max(given["short_sides"]))
    """Shorter side in evaluation, in pixels. Unless set, the largest of `short_sides`."""

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        if self.crop_sides[0] > self.crop_sides[1]:
            raise ValueError(f"crop_sides is {self.crop_sides}, but the smallest side must come first")
        if self.max_size < max(*self.short_sides, self.eval_short_side):
            raise ValueError(f"max_size is {self.max_size}, below a shorter side that is asked for")
        return self
