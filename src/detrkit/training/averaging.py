"""The moving average of the weights, which often validates better than the weights themselves."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, _foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]

from detrkit.detectors.detector import Detector


class Average:
    """A detector (``module``) that follows another; ``count`` is how often it has.

    The first update copies the weights. From then on the decay is ramped, min(decay, (1 + n) / (10 + n))
    after n updates, so that a short run's average is not made of its first weights (as in TensorFlow).
    Buffers, such as statistics, are copied. Unlike torch's AveragedModel, it counts on the device, so that no
    update waits for it and one that is left out is not counted.
    """

    def __init__(self, detector: Detector, decay: float) -> None:
        self.module = copy.deepcopy(detector)
        self.decay = decay
        self._count: Float[Tensor, ""] = torch.zeros(())

    @property
    def count(self) -> int:
        """How often it has followed, for which the device is waited for."""
        return int(self._count)

    @count.setter
    def count(self, count: int) -> None:
        self._count = self._count.new_tensor(count)

    @torch.no_grad()
    def update(self, detector: Detector, taken: Float[Tensor, ""]) -> None:
        """Take a step towards the detector's weights, or change nothing if ``taken`` is 0 and not 1."""
        average, current = tuple(self.module.parameters()), tuple(detector.parameters())
        self._count = self._count.to(taken)
        # 1 - min(decay, (1 + n) / (10 + n)), and all of the way at first
        pace = torch.where(self._count > 0, (9 / (10 + self._count)).clamp(min=1 - self.decay), 1.0)
        _foreach_lerp_(average, current, [(pace * taken).to(one) for one in average])
        for buffer, now in zip(self.module.buffers(), detector.buffers(), strict=True):
            buffer.copy_(now)
        self._count += taken
