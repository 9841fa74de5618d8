"""Conversions between box formats, and how much boxes overlap. Pure functions of tensors.

Formats: ``xyxy`` is left, top, right, bottom; ``cxcywh`` is centre, width, height. Widths and heights
are differences of coordinates: no pixel is added.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def cxcywh_to_xyxy(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """Corners of boxes given by centre and size."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - 0.5 * size, centre + 0.5 * size], dim=-1)


def xyxy_to_cxcywh(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """Centre and size of boxes given by their corners."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def area(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """Area of ``xyxy`` boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def paired_iou(a: Float[Tensor, "*#N 4"], b: Float[Tensor, "*#N 4"]) -> Float[Tensor, "*#N"]:
    """Intersection over union of each ``xyxy`` box with its partner; shapes broadcast."""
    intersection, union = _overlap(a, b)
    return intersection / union


def paired_giou(a: Float[Tensor, "*#N 4"], b: Float[Tensor, "*#N 4"]) -> Float[Tensor, "*#N"]:
    """Generalised IoU (Rezatofighi et al. 2019) of each ``xyxy`` box with its partner; shapes broadcast.

    It lies in (-1, 1]: the IoU less the share of the smallest enclosing box that neither box covers.
    """
    intersection, union = _overlap(a, b)
    enclosing = _clamped_area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    return intersection / union - (enclosing - union) / enclosing


def pairwise_iou(a: Float[Tensor, "*#B N 4"], b: Float[Tensor, "*#B M 4"]) -> Float[Tensor, "*#B N M"]:
    """IoU of every ``xyxy`` box of ``a`` with every one of ``b``."""
    return paired_iou(a[..., :, None, :], b[..., None, :, :])


def pairwise_giou(a: Float[Tensor, "*#B N 4"], b: Float[Tensor, "*#B M 4"]) -> Float[Tensor, "*#B N M"]:
    """Generalised IoU of every ``xyxy`` box of ``a`` with every one of ``b``."""
    return paired_giou(a[..., :, None, :], b[..., None, :, :])


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    intersection = _clamped_area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    return intersection, area(a) + area(b) - intersection


def _clamped_area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height
