"""What a prediction costs. Defaults are DETR's (Carion et al. 2020, section 3.1 and appendix A.4)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from detrkit.settings.section import Count, Section, kind_unless_given


class SoftmaxSettings(Section):
    """One softmax over the classes and 'no object'."""

    kind: Literal["softmax"] = "softmax"
    """What a logit means: `softmax` (DETR) or `focal` (Conditional DETR and later ones)."""
    no_object: Annotated[float, Field(gt=0)] = 0.1
    """Weight of 'no object' in the cross entropy, since most queries find nothing."""


class FocalSettings(Section):
    """A sigmoid for every class, with the focal loss (Lin et al. 2017)."""

    kind: Literal["focal"] = "focal"
    """What a logit means."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Weight of the true class; the other classes have 1 - `alpha`."""
    gamma: NonNegativeFloat = 2.0
    """How much less a query counts the surer and righter it is."""
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Probability of every class before training, whatever their number."""
    detections: Count = 100
    """Most detections of an image, of which one query may give several, of different classes."""


ScoringSettings = Annotated[
    SoftmaxSettings | FocalSettings, Field(discriminator="kind"), kind_unless_given("softmax")
]


class MatchingSettings(Section):
    """Weights of the cost by which the Hungarian matcher pairs queries with objects."""

    classification: NonNegativeFloat = 1.0
    """Weight of the class cost."""
    l1: NonNegativeFloat = 5.0
    """Weight of the L1 distance of boxes, in fractions of the image."""
    giou: NonNegativeFloat = 2.0
    """Weight of the generalised IoU."""

    @model_validator(mode="after")
    def _check(self) -> "MatchingSettings":
        if self.classification == self.l1 == self.giou == 0:
            raise ValueError("all matching weights are 0, so every match would be as good as any other")
        return self


class LossSettings(Section):
    """Weights of the loss terms; every decoder layer has the same."""

    classification: NonNegativeFloat = 1.0
    """Weight of the classification loss."""
    l1: NonNegativeFloat = 5.0
    """Weight of the L1 distance of matched boxes, in fractions of the image."""
    giou: NonNegativeFloat = 2.0
    """Weight of 1 - generalised IoU of matched boxes."""

    @model_validator(mode="after")
    def _check(self) -> "LossSettings":
        if self.classification == self.l1 == self.giou == 0:
            raise ValueError("all loss weights are 0, so nothing would be learned")
        return self
