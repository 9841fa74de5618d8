"""One batch through a detector: without gradients, where its weights lie, and leaving it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detrkit.data.collate import to_network
from detrkit.detectors.detector import Detector
from detrkit.errors import NotFiniteError
from detrkit.inference.precision import Precision, autocast
from detrkit.structures import Detections, Images


def detect(
    detector: Detector, images: Images, sizes: list[tuple[int, int]], precision: Precision
) -> list[Detections]:
    """What is found in each image, on the CPU; ``sizes`` are the original (height, width).

    The detector may be ``frozen`` for this precision, which is faster.

    Raises:
        NotFiniteError: An answer is not finite.
    """
    weights = next(detector.parameters(), torch.empty(0))
    # frozen weights may be shorter numbers, which pixels become only where they are multiplied
    moved = to_network(images, weights.device, torch.promote_types(weights.dtype, torch.float32))
    with _evaluating(detector), torch.inference_mode(), autocast(weights.device.type, precision):
        found = detector.detect(moved, sizes)
    if not all(torch.isfinite(column).all() for detections in found for column in detections):
        raise NotFiniteError(
            "the detector answers with numbers that are not finite: its weights are damaged, or the "
            "precision is too low; take an earlier checkpoint, or fp32."
        )
    # clone, since a tensor made in inference mode cannot be changed outside it
    return [Detections(*(column.cpu().clone() for column in detections)) for detections in found]


@contextmanager
def _evaluating(detector: Detector) -> Iterator[None]:
    modes = [(module, module.training) for module in detector.modules()]
    detector.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
