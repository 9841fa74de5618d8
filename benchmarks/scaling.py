"""Time and memory of training on 1 to 64 GPUs, by a model. No GPU is measured here.

Counted, on tensors without memory: the floating-point operations and the bytes read and written of every
kernel of a training step, the activations that its backward pass needs, and the bytes of weights, gradients
and optimiser. Assumed: all that is in ``ASSUMED`` and ``GPUS``. Prints the tables of docs/scaling.md.

A kernel takes the longer of its operations at the GPU's peak rate and its bytes at the memory's peak rate;
a step takes the sum of its kernels divided by the efficiency. Gradients go around a ring of all GPUs, in part
while the backward pass is still computing.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from functools import cache
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torchvision import tv_tensors

from detrkit.data.transforms import training_transform
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.settings.experiment import recipe
from detrkit.structures import Images, Sample
from detrkit.training.optimise import build_optimizer
from detrkit.weights.coco import COCO_91


class Gpu(NamedTuple):
    """Published peak figures: operations, bytes and bytes per second."""

    name: str
    precision: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    """To the other GPUs of a node, each way."""
    network: float
    """To other nodes, of one adapter per GPU, each way."""


class Assumed(NamedTuple):
    """What the model takes for granted."""

    images: int = 118_287
    """Of COCO's train2017."""
    height: int = 480
    width: int = 640
    """Of an original image, COCO's most frequent size."""
    batch: int = 2
    """Images per GPU: the recipes' own."""
    efficiency: float = 0.5
    """Part of the time that kernels at their peak rates would be the whole step's."""
    host: float = 0.01
    """Seconds per step that the GPU waits for the matching on the host."""
    gpus_per_node: int = 8
    link_efficiency: float = 0.7
    """Part of a link's peak rate that the all-reduce gets."""
    latency: float = 10e-6
    """Seconds of each of the ring's transfers beside their bytes."""
    overlap: float = 0.8
    """Part of the backward pass during which gradients can travel."""
    context: float = 0.5 * 2**30
    """Bytes that CUDA and its libraries take."""


GPUS = (
    Gpu("V100 SXM2 32 GB", "fp32", 15.7e12, 0.9e12, 32e9, 150e9, 12.5e9),
    Gpu("A100 SXM 80 GB", "bf16", 312e12, 2.039e12, 80e9, 300e9, 25e9),
    Gpu("H100 SXM 80 GB", "bf16", 989e12, 3.35e12, 80e9, 450e9, 50e9),
)
ASSUMED = Assumed()
RECIPES = ("detr_r50", "detr_r101", "detr_r50_dc5", "detr_r101_dc5")
COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Kernel(NamedTuple):
    """One operation of a step."""

    flops: int
    bytes: int
    backward: bool


class Cost(NamedTuple):
    """What is counted of a recipe's step."""

    kernels: list[Kernel]
    activations: int
    weights: int
    gradients: int
    optimizer: int


class Step(NamedTuple):
    """Seconds of one step, and of the all-reduce in it, of which ``exposed`` are waited for."""

    total: float
    reduced: float
    exposed: float
