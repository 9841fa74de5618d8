"""Multiply-adds, which papers call FLOPs: those of convolutions and matrix products, attention's included.

They are counted in a real pass, for what a detector computes may depend on what it sees: a two-stage
detector has as many second stages as it has proposals.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torchvision.transforms.v2.functional import resize

from detrkit.catalog import Catalog
from detrkit.data.collate import to_network
from detrkit.data.dataset import SplitDataset
from detrkit.data.transforms import unchanged
from detrkit.detectors.detector import Detector
from detrkit.structures import Images


def multiply_adds(compute: Callable[[], object]) -> int:
    """The multiplications with their additions in whatever ``compute`` computes.

    Nothing else counts: no normalisation, activation, interpolation or pooling.
    """
    # as matrix products, since torch's table does not have all of its fused kernels of attention
    with torch.no_grad(), _Counter() as counter, sdpa_kernel(SDPBackend.MATH):
        compute()
    return counter.flops // 2


def detection_multiply_adds(detector: Detector, catalog: Catalog, size: tuple[int, int]) -> int:
    """Those from an image of (height, width) to its detections: the first of the split, stretched to it."""
    image = SplitDataset(catalog, unchanged)[0, 0].image.as_subclass(Tensor)
    device = next(detector.parameters(), torch.empty(0)).device
    images = Images(resize(image, list(size), antialias=True)[None])
    images = to_network(images, device, torch.float32)
    detector.eval()
    return multiply_adds(lambda: detector.detect(images, [size]))


class _Counter(TorchDispatchMode):
    """Sums up torch's own formulas over all operations. ``FlopCounterMode`` would ask every module first.

    A multiplication and an addition are two there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result
