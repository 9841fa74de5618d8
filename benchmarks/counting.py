"""What a training step costs, counted on tensors without memory: operations, bytes moved, bytes kept.

Networks are built with fake tensors (their shapes alone), in float32 and without dropout, so that attention
is one fused kernel, as on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.settings.experiment import recipe
from detrkit.structures import Images
from detrkit.training.optimise import build_optimizer
from detrkit.weights.coco import COCO_91

aten = torch.ops.aten
_ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
"""The kernels that torch's table of operations leaves out."""
_MOVES_NOTHING = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten._unsafe_view,
    aten.detach,
    aten.lift_fresh,
}


class Kernel(NamedTuple):
    """One operation: what it computes, and reads and writes in float32."""

    flops: int
    bytes: int


class Cost(NamedTuple):
    """A step of one process. All bytes are those of float32."""

    forward: list[Kernel]
    backward: list[Kernel]
    activations: int
    """Bytes that the forward pass keeps for the backward pass."""
    weights: int
    """Bytes of all parameters and buffers."""
    trained: int
    """Bytes of the parameters that are trained, which are those of their gradients."""


def count(name: str, batch: int, height: int, width: int) -> Cost:
    """The cost of a training step of a recipe, without its loss, which has no large products."""
    with FakeTensorMode(), _Kernels() as kernels, _kept() as kept:
        detector = _build(name)
        own = {parameter.untyped_storage()._cdata for parameter in detector.parameters()}
        kernels.clear()
        output = detector.train().network(_images(batch, height, width))
        total = output.logits.mean() + output.boxes.mean()
        forward = kernels.clear()
        total.backward()
        backward = kernels.clear()
    return Cost(
        forward,
        backward,
        sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own),
        sum(tensor.nbytes for tensor in detector.state_dict().values()),
        sum(
            parameter.nbytes
            for group in build_optimizer(detector, recipe(name).optim).param_groups
            for parameter in group["params"]
        ),
    )


def forward_flops(name: str, height: int, width: int) -> int:
    """Operations of one image's answers; a multiplication and an addition are two."""
    with FakeTensorMode(), torch.no_grad(), _Kernels() as kernels:
        detector = _build(name).eval()
        kernels.clear()
        detector.network(_images(1, height, width))
        return sum(kernel.flops for kernel in kernels.clear())


def _build(name: str) -> Detector:
    return build_detector(recipe(name, {"model.transformer.dropout": 0.0}), COCO_91)


def _images(batch: int, height: int, width: int) -> Images:
    return Images(torch.empty(batch, 3, height, width))


class _Kernels(TorchDispatchMode):
    """Notes every kernel that runs."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Kernel] = []

    def clear(self) -> list[Kernel]:
        """What was found since the last time."""
        found, self._found = self._found, []
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        kind = func._overloadpacket
        if not func.is_view and kind not in _MOVES_NOTHING:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            formula = _ATTENTION.get(kind)
            if formula is not None:
                shapes = [leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in args]
                flops = formula(*shapes)
            else:
                table = flop_registry.get(kind)
                flops = table(*args, **kwargs, out_val=result) if table else 0
            self._found.append(Kernel(flops, sum(tensor.nbytes for tensor in tensors)))
        return result


@contextmanager
def _kept() -> Iterator[dict[int, Tensor]]:
    """Collects one tensor of every memory that the forward pass keeps."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept
