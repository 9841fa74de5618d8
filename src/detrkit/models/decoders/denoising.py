"""Denoising queries (Li et al. 2022, "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising").

Early in training the matching of queries and objects changes from step to step, so that a query is pulled
about. A query that starts from a true object with some noise needs no matching: it learns to find back.

The queries of the answer start from zeros, as without denoising. DN-DETR gives them an embedding of 'unknown'
and both kinds a channel that tells them apart.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from detrkit.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from detrkit.settings.model import DenoisingSettings
from detrkit.structures import Denoised, Objects


class NoisyObjects(NamedTuple):
    """Denoising queries: true objects with noise. They are padded to one number T for all images, at least 1.

    ``real`` says which are no padding, and ``places`` where those are, counting through all queries of the
    batch. ``target`` counts through the objects of the whole batch; -1 is 'no object'. ``group`` tells apart
    the copies of an image's objects, which do not see each other. Of every object there are so many
    ``positives`` and ``negatives``.
    """

    hidden: Float[Tensor, "B T D"]
    anchors: Float[Tensor, "B T 4"]
    real: Bool[Tensor, "B T"]
    places: Int[Tensor, " R"]
    target: Int[Tensor, "B T"]
    group: Int[Tensor, " T"]
    positives: int
    negatives: int

    def read(self, logits: Float[Tensor, "L B T K"], boxes: Float[Tensor, "L B T 4"]) -> Denoised:
        """The answers to them, without the padding among them."""
        logits, boxes = (part.flatten(1, 2)[:, self.places] for part in (logits, boxes))
        return Denoised(logits, boxes, self.target.flatten()[self.places], self.positives, self.negatives)


class Denoising(nn.Module):
    """Makes denoising queries: the embedding of a class that may be wrong, at a box that is a little off."""

    def __init__(self, settings: DenoisingSettings, num_classes: int, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.labels = nn.Embedding(num_classes, width)

    def forward(self, objects: list[Objects]) -> NoisyObjects:
        """``groups`` noisy copies of every image's objects, with ``negatives`` twice as many queries."""
        per_group = 2 if self.settings.negatives else 1
        copies = self.settings.groups * per_group
        labels = _pad([image.labels for image in objects]).repeat(1, copies)
        boxes = _pad([image.boxes for image in objects]).repeat(1, copies, 1)
        real = _pad([torch.ones_like(image.labels, dtype=torch.bool) for image in objects])
        target = (real.flatten().cumsum(0) - 1).view_as(real).repeat(1, copies)
        copy = torch.arange(copies, device=real.device).repeat_interleave(real.shape[1])
        negative = copy % per_group == 1
        return NoisyObjects(
            self.labels(self._noisy_labels(labels)),
            self._noisy_boxes(boxes, negative).logit(),
            real.repeat(1, copies),
            _places([len(image.labels) for image in objects], copies).to(real.device),
            target.masked_fill(negative, -1),
            copy // per_group,
            self.settings.groups,
            self.settings.groups * (per_group - 1),
        )

    def _noisy_labels(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        drawn_anew = torch.rand(labels.shape, device=labels.device) < self.settings.label_noise
        return torch.where(drawn_anew, torch.randint_like(labels, self.labels.num_embeddings), labels)

    def _noisy_boxes(
        self, boxes: Float[Tensor, "B T 4"], negative: Bool[Tensor, " T"]
    ) -> Float[Tensor, "B T 4"]:
        """Every side moved by up to ``box_noise`` halves of the box's size, or by once to twice that.

        The box is then cut at the border of the image, but keeps a thousandth of the image as its least
        width and height, and as the least distance of its centre from the border.
        """
        reach = torch.rand_like(boxes) + negative[:, None]
        direction = 1.0 - 2.0 * torch.randint_like(boxes, 2)
        half = boxes[..., 2:].repeat(1, 1, 2) / 2
        moved = cxcywh_to_xyxy(boxes) + direction * reach * half * self.settings.box_noise
        low, high = moved[..., :2], moved[..., 2:]
        corners = torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=-1)
        return xyxy_to_cxcywh(corners.clamp(0, 1)).clamp(1e-3, 1 - 1e-3)


def _places(counts: list[int], copies: int) -> Int[Tensor, " R"]:
    """Where the queries that are no padding lie: from the counts, for which no device need be asked."""
    longest = max(1, *counts)
    starts = [(image * copies + copy) * longest for image in range(len(counts)) for copy in range(copies)]
    counts = [count for count in counts for _ in range(copies)]
    return torch.tensor(
        [start + number for start, count in zip(starts, counts, strict=True) for number in range(count)],
        dtype=torch.int64,
    )


def _pad(tensors: list[Tensor]) -> Tensor:
    """One tensor of all, as long as the longest and at least 1, so that no step is without a query."""
    room_for_one = tensors[0].new_zeros(1, *tensors[0].shape[1:])
    return pad_sequence([*tensors, room_for_one], batch_first=True)[:-1]
