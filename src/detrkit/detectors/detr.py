"""The DETR family as a detector: a network, its loss, and its postprocessing."""

from typing import Any

from torch import nn

from detrkit.catalog import Category
from detrkit.detectors.detector import Detector
from detrkit.models.detr import Detr
from detrkit.objective.criterion import Criterion
from detrkit.objective.postprocess import postprocess
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals


class DetrDetector(Detector):
    """``network`` is the bare network, which turns ``Images`` into a ``DetrOutput``."""

    def __init__(
        self, network: Detr, criterion: Criterion, categories: tuple[Category, ...], image_size: ImageSize
    ) -> None:
        super().__init__(categories, image_size)
        self.network = network
        self.criterion = criterion

    @property
    def backbone(self) -> nn.Module:
        """The ResNet."""
        return self.network.backbone

    @property
    def max_objects(self) -> int:
        """One object per query."""
        return self.network.decoder.num_queries

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        """The set loss of a batch."""
        return self.criterion(self.network(images, objects), objects, totals)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network, in place; matching and losses, which ask the host, stay as they are."""
        self.network.compile(*args, **kwargs)

    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        """The last decoder layer's answers."""
        return postprocess(self.network(images), sizes, self.criterion.scoring)
