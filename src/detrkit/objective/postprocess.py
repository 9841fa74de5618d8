"""From the network's answer to detections: the door out of model space."""

import torch
from torch import Tensor

from detrkit.boxes import cxcywh_to_xyxy
from detrkit.scoring import Scoring
from detrkit.structures import Detections, DetrOutput


def postprocess(output: DetrOutput, sizes: list[tuple[int, int]], scoring: Scoring) -> list[Detections]:
    """What the last decoder layer found in each image, in pixels of its original (height, width).

    Boxes may reach a little over the image's border, as the original leaves them.
    """
    scores, labels, queries = scoring.answer(output.logits[-1].float())
    boxes = cxcywh_to_xyxy(output.boxes[-1].float())
    boxes = boxes.gather(1, queries[..., None].expand(-1, -1, 4)) * _scale(sizes, boxes)
    return [Detections(*image) for image in zip(boxes, scores, labels, strict=True)]


def _scale(sizes: list[tuple[int, int]], like: Tensor) -> Tensor:
    scale = [(width, height, width, height) for height, width in sizes]
    return torch.tensor(scale, dtype=like.dtype, device=like.device)[:, None]
