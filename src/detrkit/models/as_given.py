"""Images as torchvision's detectors take them, when the data loader has already made them ready."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class AsGiven(GeneralizedRCNNTransform):
    """torchvision's way from images to a network without its resizing, and with ``scale`` and ``shift``.

    What is left is the padding of a batch, at the bottom and the right, to multiples of ``divisible`` pixels.
    """

    def __init__(
        self,
        divisible: int,
        scale: Sequence[float] = (1.0, 1.0, 1.0),
        shift: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__(0, 0, [], [], size_divisible=divisible)
        self._scale = tuple(scale)
        self._shift = tuple(shift)

    def normalize(self, image: Tensor) -> Tensor:
        """The image in the range of numbers that its backbone was made for."""
        if self._scale == (1.0, 1.0, 1.0):
            return image
        scale, shift = (image.new_tensor(values)[:, None, None] for values in (self._scale, self._shift))
        return image * scale + shift

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Both as they are."""
        return image, target

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """The images side by side, in the layout of memory that convolutions take best."""
        return super().batch_images(images, size_divisible).contiguous(memory_format=torch.channels_last)
