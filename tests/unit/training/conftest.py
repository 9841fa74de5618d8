from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detrkit.catalog import Category
from detrkit.detectors.detector import Detector
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals


class TinyDetector(Detector):
    """A detector of a few parameters: trained and frozen ones, a buffer, and a loss that needs no boxes."""

    def __init__(self, seed: int) -> None:
        super().__init__((Category(1, "cat"),), ImageSize(64, 64))
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.body[0].requires_grad_(False)
        self.head = nn.Linear(4, 2)

    @property
    def backbone(self) -> nn.Module:
        return self.body

    @property
    def max_objects(self) -> int:
        return 5

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        per_image = self.head(self.body(images.pixels.mean((2, 3)))).square().sum(1)
        total = per_image.sum() / totals.images
        return LossReport(total, {"loss": total.detach()[None]})

    def detect(self, images: Images, sizes: list[tuple[int, int]]) -> list[Detections]:
        raise NotImplementedError

    def step(self, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
        """Take training step number ``number``, a function of that number and the state alone."""
        pixels = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(number))
        valid = torch.ones(4, 2, 2, dtype=torch.bool)
        optimizer.zero_grad()
        total = self(Images(pixels, valid), [], Totals(4, 0, 0)).total
        total.backward()
        optimizer.step()
        return total.detach()


@pytest.fixture
def build_tiny() -> Callable[[int], TinyDetector]:
    return TinyDetector
