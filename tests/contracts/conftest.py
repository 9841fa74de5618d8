from collections.abc import Callable

import pytest
import torch

from detrkit.structures import Images, Objects


@pytest.fixture(scope="session")
def noise() -> Callable[..., Images]:
    """Makes images of noise of these (height, width), padded to one batch."""

    def make(*sizes: tuple[int, int], seed: int = 0) -> Images:
        generator = torch.Generator().manual_seed(seed)
        height, width = (max(side) for side in zip(*sizes, strict=True))
        pixels = torch.zeros(len(sizes), 3, height, width)
        valid = torch.zeros(len(sizes), height, width, dtype=torch.bool)
        for image, mask, (rows, columns) in zip(pixels, valid, sizes, strict=True):
            image[:, :rows, :columns] = torch.randn(3, rows, columns, generator=generator)
            mask[:rows, :columns] = True
        return Images(pixels, valid)

    return make


@pytest.fixture(scope="session")
def objects_at_random() -> Callable[..., list[Objects]]:
    """Makes as many objects per image as told, of the first ``num_classes`` classes."""

    def make(*counts: int, num_classes: int, seed: int = 0) -> list[Objects]:
        generator = torch.Generator().manual_seed(seed)
        boxes = [0.3 + 0.4 * torch.rand(count, 4, generator=generator) for count in counts]
        return [
            Objects(each, torch.randint(num_classes, (len(each),), generator=generator)) for each in boxes
        ]

    return make
