"""What a logit means, in one place, so that match cost, loss and answers agree."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from detrkit.settings.objective import FocalSettings, ScoringSettings, SoftmaxSettings
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

    def class_head(self, width: int, num_classes: int) -> nn.Linear:
        """From a query's hidden state to its logits, with the weights to start training from."""
        return nn.Linear(width, self.num_logits(num_classes))

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
    def best(self, logits: Float[Tensor, "*B Q K"]) -> Int[Tensor, "*B Q"]:
        """The class that each query prefers; ``NO_OBJECT`` where that is among what it chooses from."""

    @abstractmethod
    def finds(self, logits: Float[Tensor, "*B Q K"]) -> Bool[Tensor, "*B Q"]:
        """Whether each query holds that it has found an object."""

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

    def best(self, logits: Float[Tensor, "*B Q K"]) -> Int[Tensor, "*B Q"]:
        """The most probable of the classes and 'no object'."""
        best = logits.argmax(-1)
        return best.where(best != logits.shape[-1] - 1, NO_OBJECT)

    def finds(self, logits: Float[Tensor, "*B Q K"]) -> Bool[Tensor, "*B Q"]:
        """Where a class is more probable than 'no object'."""
        return self.best(logits) != NO_OBJECT

    def answer(self, logits: Float[Tensor, "B Q K"]) -> Answers:
        """Every query's most probable class; 'no object' is never an answer, only what others lose to."""
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = scores.sort(stable=True, dim=-1, descending=True)
        return Answers(scores, labels.gather(-1, queries), queries)


class Focal(Scoring):
    """A sigmoid for every class, with the focal loss (Lin et al. 2017).

    In detection transformers since Deformable DETR (Zhu et al. 2021).
    """

    def __init__(self, alpha: float, gamma: float, prior: float, detections: int) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.prior = prior
        self.detections = detections

    def num_logits(self, num_classes: int) -> int:
        """One per class; a query that finds nothing has low ones."""
        return num_classes

    def class_head(self, width: int, num_classes: int) -> nn.Linear:
        """One whose every class starts at the prior probability (section 4.1 there)."""
        head = super().class_head(width, num_classes)
        nn.init.constant_(head.bias, math.log(self.prior / (1 - self.prior)))
        return head

    def match_cost(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "B N"]
    ) -> Float[Tensor, "L B Q N"]:
        """By how much the query's focal loss for the class rises if the object is not its own, negated."""
        wanted = labels[None, :, None, :].expand(*logits.shape[:-1], -1)
        probability = logits.sigmoid().gather(-1, wanted)
        # As in the original, probabilities of 0 and 1 are kept from infinity by 1e-8.
        if_mine = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-8).log()
        if_not = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-8).log()
        return if_mine - if_not

    def loss(
        self, logits: Float[Tensor, "L B Q K"], labels: Int[Tensor, "L B Q"], totals: Totals
    ) -> Float[Tensor, " L"]:
        """The focal loss of every query and class, divided by the step's number of objects."""
        classes = torch.arange(logits.shape[-1], device=labels.device)
        target = (labels[..., None] == classes).to(logits.dtype)
        wrong = logits * (1 - 2 * target)
        entropy = F.softplus(wrong)
        # (1 - p) ** gamma of the true class, p ** gamma of the others: by the logarithm, since a power has
        # no slope at 0, where float32 rounds the miss of a sure query, if gamma is below 1.
        focus = (self.gamma * F.logsigmoid(wrong)).exp()
        weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        return (weight * focus * entropy).sum((1, 2, 3)) / max(totals.boxes, 1.0)

    def best(self, logits: Float[Tensor, "*B Q K"]) -> Int[Tensor, "*B Q"]:
        """The most probable class."""
        return logits.argmax(-1)

    def finds(self, logits: Float[Tensor, "*B Q K"]) -> Bool[Tensor, "*B Q"]:
        """Where some class is more probable than not."""
        return logits.amax(-1) > 0

    def answer(self, logits: Float[Tensor, "B Q K"]) -> Answers:
        """The most probable ones of all pairs of a query and a class."""
        pairs = logits.sigmoid().flatten(1)
        scores, index = pairs.topk(min(self.detections, pairs.shape[1]), dim=-1)
        num_classes = logits.shape[-1]
        return Answers(scores, index % num_classes, index // num_classes)


def build_scoring(settings: ScoringSettings) -> Scoring:
    """The scoring that the settings name."""
    match settings:
        case SoftmaxSettings():
            return Softmax(settings.no_object)
        case FocalSettings():
            return Focal(settings.alpha, settings.gamma, settings.prior, settings.detections)
        case _:
            assert_never(settings)
