"""What a recipe's authors measured with it, to compare one's own run with. Nothing computes with it."""

from typing import Annotated

from pydantic import Field

from detrkit.settings.section import Count, Section


class PublishedSettings(Section):
    """The figure that a recipe is known by. Empty where it is detrkit's own."""

    ap: Annotated[float, Field(gt=0, le=100)] | None = None
    """Box AP on COCO val2017, in percent."""
    epochs: Count | None = None
    """Epochs of training that gave it."""
    source: str = ""
    """Where it is published."""
