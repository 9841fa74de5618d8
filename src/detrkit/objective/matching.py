"""Which query answers for which object: bipartite matching (Carion et al. 2020, section 3.1).

Costs are computed for each image against its own objects only, for all decoder layers at once, and go
to the host in one transfer; the time is linear in the batch. Assignments are exact (Kuhn 1955), by SciPy.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detrkit.boxes import cxcywh_to_xyxy, pairwise_giou
from detrkit.scoring import Scoring
from detrkit.settings.objective import MatchingSettings
from detrkit.structures import Matches, Objects


class NonFiniteCostError(ArithmeticError):
    """A cost that is not a number. ``images`` are the positions in the batch where it arose."""

    def __init__(self, images: list[int]) -> None:
        super().__init__(f"the matching costs of images {images} of the batch are not finite")
        self.images = images


def match(
    logits: Float[Tensor, "L B Q K"],
    boxes: Float[Tensor, "L B Q 4"],
    objects: list[Objects],
    scoring: Scoring,
    settings: MatchingSettings,
) -> Matches:
    """The cheapest pairs of queries and objects, for every layer and image apart.

    An image with more objects than queries leaves the dearest objects without a query.

    Raises:
        NonFiniteCostError: where a prediction or an object is not finite.
    """
    with torch.no_grad():
        cost = matching_cost(logits, boxes, objects, scoring, settings).cpu().numpy()
    return assign(cost, [len(image.labels) for image in objects], logits.device)


def matching_cost(
    logits: Float[Tensor, "L B Q K"],
    boxes: Float[Tensor, "L B Q 4"],
    objects: list[Objects],
    scoring: Scoring,
    settings: MatchingSettings,
) -> Float[Tensor, "L B Q N"]:
    """What each query would cost for each object of its image; what lies beyond those is padding."""
    labels, targets = _pad(objects, boxes)
    l1 = torch.stack([torch.cdist(layer, targets, p=1) for layer in boxes])
    giou = pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets)[None])
    class_cost = scoring.match_cost(logits, labels)
    return settings.l1 * l1 + settings.classification * class_cost - settings.giou * giou


def assign(cost: Float[np.ndarray, "L B Q N"], counts: list[int], device: torch.device) -> Matches:
    """The cheapest pairs of every layer and image, whose first ``counts[image]`` columns are its objects."""
    bad = [image for image, count in enumerate(counts) if not np.isfinite(cost[:, image, :, :count]).all()]
    if bad:
        raise NonFiniteCostError(bad)
    offsets = np.cumsum([0, *counts])
    layers = []
    for layer in cost:
        pairs = [linear_sum_assignment(layer[image, :, :count]) for image, count in enumerate(counts)]
        image = np.concatenate([np.full(len(query), image) for image, (query, _) in enumerate(pairs)])
        query = np.concatenate([query for query, _ in pairs])
        target = np.concatenate(
            [offset + target for offset, (_, target) in zip(offsets, pairs, strict=False)]
        )
        layers.append((image, query, target))
    index = torch.from_numpy(np.asarray(layers, dtype=np.int64)).to(device)
    return Matches(*index.unbind(1))


def assign_in_order(logits: Float[Tensor, "L B Q K"], counts: list[int]) -> Matches:
    """As many pairs as ``assign`` finds, of queries and objects as they come, where no cost can tell."""
    num_layers, batch, queries, _ = logits.shape
    return assign(np.zeros((num_layers, batch, queries, max(counts))), counts, logits.device)


def _pad(objects: list[Objects], like: Tensor) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N 4"]]:
    longest = max(len(image.labels) for image in objects)
    labels = torch.zeros(len(objects), longest, dtype=torch.int64, device=like.device)
    targets = torch.ones(len(objects), longest, 4, dtype=like.dtype, device=like.device)
    for row, image in enumerate(objects):
        labels[row, : len(image.labels)] = image.labels
        targets[row, : len(image.labels)] = image.boxes
    return labels, targets
