"""The set loss: match, then compare (Carion et al. 2020, section 3.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from detrkit.objective.losses import box_losses, cardinality_error, class_error, targets_of_queries
from detrkit.objective.matching import match
from detrkit.scoring import Scoring
from detrkit.settings.objective import LossSettings, MatchingSettings
from detrkit.structures import DetrOutput, LossReport, Objects, Totals


@dataclass(frozen=True)
class Criterion:
    """Pairs the queries of every layer with the objects and weighs the terms of the loss."""

    scoring: Scoring
    matching: MatchingSettings
    weights: LossSettings

    def __call__(self, output: DetrOutput, objects: list[Objects], totals: Totals) -> LossReport:
        """The loss of a batch, as its share of an optimiser step whose ``totals`` are given.

        The terms of every layer count alike. Also reported, without weight: ``class_error`` and
        ``cardinality_error``.
        """
        logits, boxes = _at_least_float32(output.logits), _at_least_float32(output.boxes)
        labels = torch.cat([image.labels for image in objects])
        targets = torch.cat([image.boxes for image in objects])
        counts = torch.tensor([len(image.labels) for image in objects], device=logits.device)

        matches = match(logits, boxes, objects, self.scoring, self.matching)
        wanted = targets_of_queries(labels, matches, like=logits)
        classification = self.scoring.loss(logits, wanted, totals)
        l1, giou = box_losses(boxes, targets, matches, totals)

        weights = self.weights
        total = weights.classification * classification + weights.l1 * l1 + weights.giou * giou
        terms = {
            "classification": classification.detach(),
            "l1": l1.detach(),
            "giou": giou.detach(),
            "class_error": class_error(logits, wanted, self.scoring, totals),
            "cardinality_error": cardinality_error(logits, counts, self.scoring, totals),
        }
        return LossReport(total.sum(), terms)


def count_totals(objects: list[Objects], max_objects: int) -> Totals:
    """What one batch adds to the totals of its step, where an image can match ``max_objects``."""
    counts = [len(image.labels) for image in objects]
    return Totals(len(counts), sum(counts), sum(min(count, max_objects) for count in counts))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
