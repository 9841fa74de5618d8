"""What training, evaluation and the benchmark know of a detector, whichever it is."""

from abc import ABC, abstractmethod

from torch import nn

from detrkit.catalog import Category
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals


class Detector(nn.Module, ABC):
    """A network with its loss, the meaning of its labels, and the image size it was trained for.

    Attributes:
        categories: The position of a category is its label.
        image_size: What evaluation and prediction resize an image to.
    """

    def __init__(self, categories: tuple[Category, ...], image_size: ImageSize) -> None:
        super().__init__()
        self.categories = categories
        self.image_size = image_size

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part that is trained with the backbone's learning rate."""

    @property
    @abstractmethod
    def max_objects(self) -> int:
        """The most objects of one image that its loss can pair with a prediction (`Q` for DETR)."""

    @abstractmethod
    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        """The loss of a batch, divided by the ``totals`` of the whole optimiser step."""

    @abstractmethod
    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        """What is found in each image, scaled to its original (height, width)."""


def num_parameters(module: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters, counted once where they are shared."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)
