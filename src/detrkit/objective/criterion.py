"""The set loss: match, then compare (Carion et al. 2020, section 3.1)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from detrkit.objective.losses import box_losses, cardinality_error, class_error, targets_of_queries
from detrkit.objective.matching import NonFiniteCostError, assign_in_order, match
from detrkit.scoring import Scoring
from detrkit.settings.objective import LossSettings, MatchingSettings
from detrkit.structures import Denoised, DetrOutput, Groups, LossReport, Matches, Objects, Totals

Terms = dict[str, Float[Tensor, " L"]]
"""Losses of every layer by name."""


@dataclass(frozen=True)
class Criterion:
    """Pairs the queries of every layer with the objects and weighs the terms of the loss."""

    scoring: Scoring
    matching: MatchingSettings
    weights: LossSettings

    def __call__(self, output: DetrOutput, objects: list[Objects], totals: Totals) -> LossReport:
        """The loss of a batch, as its share of an optimiser step whose ``totals`` are given.

        The terms of every layer count alike. Those of all further groups together count as much as those
        of the answers, and so do those of all denoising queries. Also reported, without weight:
        ``class_error`` and ``cardinality_error``. Where matching costs are not finite, neither is the loss,
        and the report says of which images: to raise would leave other processes waiting for this one.
        """
        logits, boxes = _at_least_float32(output.logits), _at_least_float32(output.boxes)
        groups = None if output.groups is None else _as_images(output.groups)
        matches, of_groups, unmatched = self._match(logits, boxes, groups, objects)
        terms = self._terms(logits, boxes, objects, matches, totals)
        if groups is not None:
            terms |= _prefixed("group", self._terms_of_groups(*groups, objects, of_groups, totals))
        if output.denoised is not None:
            terms |= _prefixed("denoising", self._terms_of_denoising(output.denoised, objects, totals))
        total = torch.stack([self._weight(name) * term.sum() for name, term in terms.items()]).sum()
        if unmatched:
            total = total * math.nan

        labels = torch.cat([image.labels for image in objects])
        wanted = targets_of_queries(labels, matches, like=logits)
        counts = torch.tensor([len(image.labels) for image in objects], device=logits.device)
        terms |= {
            "class_error": class_error(logits, wanted, self.scoring, totals),
            "cardinality_error": cardinality_error(logits, counts, self.scoring, totals),
        }
        return LossReport(total, {name: term.detach() for name, term in terms.items()}, unmatched)

    def _terms(
        self,
        logits: Float[Tensor, "L B Q K"],
        boxes: Float[Tensor, "L B Q 4"],
        objects: list[Objects],
        matches: Matches,
        totals: Totals,
    ) -> Terms:
        labels = torch.cat([image.labels for image in objects])
        targets = torch.cat([image.boxes for image in objects])
        wanted = targets_of_queries(labels, matches, like=logits)
        l1, giou = box_losses(boxes, targets, matches, totals)
        return {"classification": self.scoring.loss(logits, wanted, totals), "l1": l1, "giou": giou}

    def _match(
        self,
        logits: Float[Tensor, "L B Q K"],
        boxes: Float[Tensor, "L B Q 4"],
        groups: tuple[Float[Tensor, "L GB Q K"], Float[Tensor, "L GB Q 4"]] | None,
        objects: list[Objects],
    ) -> tuple[Matches, Matches, list[int]]:
        """The matches of the answers and of the groups, whose costs go to the host together.

        Also the positions of images whose costs are not finite, in which case the pairs mean nothing.
        """
        number = 1
        if groups is not None:
            number += groups[0].shape[1] // len(objects)
            logits, boxes = torch.cat([logits, groups[0]], dim=1), torch.cat([boxes, groups[1]], dim=1)
        unmatched: list[int] = []
        try:
            matches = match(logits, boxes, objects * number, self.scoring, self.matching)
        except NonFiniteCostError as error:
            matches = assign_in_order(logits, [len(image.labels) for image in objects] * number)
            unmatched = sorted({image % len(objects) for image in error.images})
        own = matches.query.shape[-1] // number
        first, rest = ([part[:, piece] for part in matches] for piece in (slice(own), slice(own, None)))
        image, query, target = rest
        num_objects = sum(len(image.labels) for image in objects)
        return Matches(*first), Matches(image - len(objects), query, target - num_objects), unmatched

    def _terms_of_groups(
        self,
        logits: Float[Tensor, "L GB Q K"],
        boxes: Float[Tensor, "L GB Q 4"],
        objects: list[Objects],
        matches: Matches,
        totals: Totals,
    ) -> Terms:
        """The groups as further images with the same objects."""
        number = logits.shape[1] // len(objects)
        totals = Totals(*(number * total for total in totals))
        return self._terms(logits, boxes, objects * number, matches, totals)

    def _terms_of_denoising(self, denoised: Denoised, objects: list[Objects], totals: Totals) -> Terms:
        """The denoising queries as images with one query each, whose match is known."""
        logits, boxes = (_at_least_float32(part[:, :, None]) for part in (denoised.logits, denoised.boxes))
        share = denoised.positives / (denoised.positives + denoised.negatives)
        # those with a target, in order; ``nonzero`` would have to ask the device how many they are
        known = (denoised.target < 0).byte().argsort(stable=True)[: round(share * len(denoised.target))]
        index = known.expand(len(logits), -1)
        matches = Matches(index, torch.zeros_like(index), denoised.target[index])
        positives = denoised.positives * totals.boxes
        queries = positives + denoised.negatives * totals.boxes
        return self._terms(logits, boxes, objects, matches, Totals(max(queries, 1.0), positives, positives))

    def _weight(self, term: str) -> float:
        return getattr(self.weights, term.rpartition("_")[2])


def _prefixed(prefix: str, terms: Terms) -> Terms:
    return {f"{prefix}_{name}": term for name, term in terms.items()}


def count_totals(objects: list[Objects], max_objects: int) -> Totals:
    """What one batch adds to the totals of its step, where an image can match ``max_objects``."""
    counts = [len(image.labels) for image in objects]
    return Totals(len(counts), sum(counts), sum(min(count, max_objects) for count in counts))


def _as_images(groups: Groups) -> tuple[Float[Tensor, "L GB Q K"], Float[Tensor, "L GB Q 4"]]:
    """The groups' answers, as if each group were of images of its own."""
    return _at_least_float32(groups.logits.flatten(1, 2)), _at_least_float32(groups.boxes.flatten(1, 2))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
