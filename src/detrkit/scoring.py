"""What a logit means, in one place, so that match cost, loss and answers agree."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from detrkit.settings.objective import ScoringSettings
from detrkit.structures import Totals

NO_OBJECT = -1
"""The label of a query that answers for nothing."""


class Answers(NamedTuple):
    """The classes that queries decide for, best first."""

    scores: Float[Tensor, "B R"]
    labels: Int[Tensor, "B R"]
    queries: Int[Tensor, "B R"]


class Scoring(ABC):
    """What a query's logits say about its class."""

    @abstractmethod
    def num_logits(self, num_classes: int) -> int:
        """Logits per query (`K`)."""

    @abstractmethod
    def match_cost(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "B N"]
    ) -> Float[Tensor, "L B Q N"]:
        """How badly each query's class fits each object of its image."""

    @abstractmethod
    def loss(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "L B Q"], totals: Totals
    ) -> Float[Tensor, " L"]:
        """The classification loss of every layer; a label is a class or ``NO_OBJECT``."""

    @abstractmethod
    def predict(self, logits: Float[Tensor, "*B Q K"]) -> Int[Tensor, "*B Q"]:
        """The class that each query decides for, or ``NO_OBJECT``."""

    @abstractmethod
    def answer(self, logits: Float[Tensor, "B Q K"]) -> Answers:
        """The detections' classes and scores."""


class Softmax(Scoring):
    """One softmax over the classes and, last, 'no object' (Carion et al. 2020, section 3.1)."""

    def __init__(self, no_object: float) -> None:
        self.no_object = no_object

    def num_logits(self, num_classes: int) -> int:
        """One per class, and one for 'no object'."""
        return num_classes + 1

    def match_cost(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "B N"]
    ) -> Float[Tensor, "L B Q N"]:
        """Minus the probability of the object's class: of the size of box distances, unlike its logarithm."""
        wanted = labels[None, :, None, :].expand(*logits.shape[:-1], -1)
        return -logits.softmax(-1).gather(-1, wanted)

    def loss(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "L B Q"], totals: Totals
    ) -> Float[Tensor, " L"]:
        """Cross entropy with a weight for 'no object', divided by the weights of all the step's queries."""
        queries, num_logits = logits.shape[-2:]
        found = labels != NO_OBJECT
        target = labels.where(found, num_logits - 1)
        entropy = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none")
        weight = entropy.new_full(found.shape, self.no_object).masked_fill(found, 1.0)
        total_weight = totals.matched + self.no_object * (totals.images * queries - totals.matched)
        return (entropy.view(found.shape) * weight).sum((1, 2)) / total_weight

    def predict(self, logits: Float[Tensor, "*B Q K"]) -> Int[Tensor, "*B Q"]:
        """The most probable of the classes and 'no object'."""
        best = logits.argmax(-1)
        return best.where(best != logits.shape[-1] - 1, NO_OBJECT)

    def answer(self, logits: Float[Tensor, "B Q K"]) -> Answers:
        """Every query's most probable class; 'no object' is never an answer, only what others lose to."""
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = scores.sort(stable=True, dim=-1, descending=True)
        return Answers(scores, labels.gather(-1, queries), queries)


def build_scoring(settings: ScoringSettings) -> Scoring:
    """The scoring that the settings name."""
    return Softmax(settings.no_object)
