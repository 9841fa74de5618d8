"""The moving average of the weights, which often validates better than the weights themselves."""

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from detrkit.detectors.detector import Detector


class Average:
    """A detector (``module``) that follows another; ``count`` is how often it has.

    The first update copies the weights. From then on the decay is ramped, min(decay, (1 + n) / (10 + n))
    after n updates, so that a short run's average is not made of its first weights (as in TensorFlow).
    Buffers, such as statistics, are copied. Unlike torch's AveragedModel, it counts on the host, so that no
    update waits for the device.
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self.module = copy.deepcopy(detector)
        self.decay = decay
        self.count = 0

    @torch.no_grad()
    def update(self, detector: Detector) -> None:
        """Take a step towards the detector's weights."""
        kept = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        average, current = tuple(self.module.parameters()), tuple(detector.parameters())
        get_ema_multi_avg_fn(kept)(average, current, self.count)
        for buffer, now in zip(self.module.buffers(), detector.buffers(), strict=True):
            buffer.copy_(now)
        self.count += 1
