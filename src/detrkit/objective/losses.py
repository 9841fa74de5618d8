"""The terms of the set loss, for all decoder layers at once (Carion et al. 2020, section 3.1 and A.2)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from detrkit.boxes import cxcywh_to_xyxy, paired_giou
from detrkit.scoring import NO_OBJECT, Scoring
from detrkit.structures import Matches, Totals


def targets_of_queries(
    labels: Int[Tensor, " N"], matches: Matches, like: Float[Tensor, "L B Q K"]
) -> Int[Tensor, "L B Q"]:
    """The class that each query of each layer answers for, or ``NO_OBJECT``."""
    wanted = torch.full(like.shape[:3], NO_OBJECT, device=labels.device)
    wanted[_layer_index(matches), matches.image, matches.query] = labels[matches.target]
    return wanted


def box_losses(
    boxes: Float[Tensor, "L B Q 4"], targets: Float[Tensor, "N 4"], matches: Matches, totals: Totals
) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """(L1 distance, 1 - generalised IoU) of matched boxes, summed and divided by the boxes of the step."""
    predicted = boxes[_layer_index(matches), matches.image, matches.query]
    wanted = targets[matches.target]
    normaliser = max(totals.boxes, 1.0)
    l1 = (predicted - wanted).abs().sum((1, 2)) / normaliser
    giou = (1 - paired_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))).sum(1) / normaliser
    return l1, giou


@torch.no_grad()
def class_error(
    logits: Float[Tensor, "L B Q K"], wanted: Int[Tensor, "L B Q"], scoring: Scoring, totals: Totals
) -> Float[Tensor, " L"]:
    """Percentage of matched queries whose best class is wrong. For people: no gradient, no weight.

    As in the original, 'no object' is among the classes that a query may wrongly prefer, where it is one.
    """
    wrong = (scoring.best(logits) != wanted) & (wanted != NO_OBJECT)
    return 100 * wrong.sum((1, 2)).to(logits.dtype) / max(totals.matched, 1.0)


@torch.no_grad()
def cardinality_error(
    logits: Float[Tensor, "L B Q K"], counts: Int[Tensor, " B"], scoring: Scoring, totals: Totals
) -> Float[Tensor, " L"]:
    """By how many objects an image's count is off, on average. For people: no gradient, no weight."""
    found = scoring.finds(logits).sum(-1)
    return (found - counts).abs().sum(-1).to(logits.dtype) / totals.images


def _layer_index(matches: Matches) -> Int[Tensor, "L 1"]:
    return torch.arange(len(matches.query), device=matches.query.device)[:, None]
