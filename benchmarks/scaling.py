"""Time and memory of training on 1 to 64 GPUs, by a model: no GPU is measured here.

``counting`` says what a step costs; what is assumed beside it is in ``GPUS`` and ``Assumed``, and printed. A
kernel takes the longer of its operations at the GPU's peak and its bytes at the memory's peak, and a step the
sum of its kernels divided by an efficiency. Gradients go around one ring of all GPUs, partly while the
backward pass still computes. Prints the tables of docs/scaling.md.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import torch
from counting import Cost, count, forward_flops
from render import place
from torchvision import tv_tensors

from detrkit.data.transforms import training_transform
from detrkit.settings.experiment import recipe
from detrkit.structures import Sample


class Gpu(NamedTuple):
    """Published peak figures: operations and bytes per second, and bytes."""

    name: str
    precision: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    """Bytes per second to the other GPUs of its node, each way."""
    network: float
    """Bytes per second to other nodes, each way, by one adapter."""


class Assumed(NamedTuple):
    """What the model takes for granted; ``MEANING`` says what each is."""

    images: int = 118_287
    batch: int = 2
    portrait: float = 0.25
    efficiency: float = 0.5
    host: float = 0.010
    gpus_per_node: int = 8
    link_efficiency: float = 0.7
    latency: float = 1e-5
    overlap: float = 0.8
    context: float = 0.5e9


MEANING = {
    "images": "images of an epoch: COCO's train2017",
    "batch": "images per GPU: the recipes' own",
    "portrait": "part of the images that are 640 x 480 (height x width); the others are 480 x 640",
    "efficiency": "part of a step's time on the GPU that its kernels would take at the peaks",
    "host": "seconds per step in which the GPU waits for the matching on the host",
    "gpus_per_node": "GPUs in one node; each has a network adapter of its own",
    "link_efficiency": "part of a link's peak that the all-reduce gets",
    "latency": "seconds of each of the ring's transfers, beside its bytes",
    "overlap": "part of the backward pass in which gradients can travel",
    "context": "bytes of CUDA and its libraries on each GPU",
}
V100 = Gpu("V100 SXM2", "fp32", 15.7e12, 0.9e12, 32e9, 150e9, 12.5e9)
A100 = Gpu("A100 SXM", "bf16", 312e12, 2.039e12, 80e9, 300e9, 25e9)
H100 = Gpu("H100 SXM", "bf16", 989e12, 3.35e12, 80e9, 450e9, 50e9)
PUBLISHED = {"detr_r50": 86, "detr_r50_dc5": 187, "detr_r101": 152, "detr_r101_dc5": 253}
"""GFLOPs of the paper's table 1, where a multiplication and an addition are one."""
COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Step(NamedTuple):
    """Seconds of one step: all of it, the all-reduce, and the part of that which is waited for."""

    total: float
    reduced: float
    exposed: float


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="a page, such as docs/scaling.md, to write them into")
    options = parser.parse_args()
    assumed = Assumed()
    height, width = mean_size(assumed.batch)
    costs = {name: count(name, assumed.batch, height, width) for name in PUBLISHED}
    four = count("detr_r50", 4, *mean_size(4))
    tables = "\n\n".join(describe(costs, (height, width), four, assumed))
    if options.into is None:
        print(tables)
    else:
        options.into.write_text(place(tables, options.into.read_text("utf-8"), "scaling"), "utf-8")


def mean_size(batch: int, batches: int = 100) -> tuple[int, int]:
    """Height and width of the recipe's padded training batches: those of the mean area and mean shape."""
    torch.manual_seed(0)
    transform = training_transform(recipe("detr_r50").data)
    sizes = []
    for _ in range(batches):
        images = [transform(_sample()).image.shape[-2:] for _ in range(batch)]
        sizes.append([max(sides) for sides in zip(*images, strict=True)])
    height, width = torch.tensor(sizes, dtype=torch.float64).T
    area, shape = (height * width).mean(), height.mean() / width.mean()
    return round(float((area * shape).sqrt())), round(float((area / shape).sqrt()))


def step_time(cost: Cost, gpu: Gpu, gpus: int, assumed: Assumed) -> Step:
    """The time of one step on each of so many GPUs."""
    narrow = 2 if gpu.precision == "bf16" else 1
    forward, backward = (
        sum(max(kernel.flops / gpu.flops, kernel.bytes / narrow / gpu.bandwidth) for kernel in kernels)
        / assumed.efficiency
        for kernels in (cost.forward, cost.backward)
    )
    update = 10 * cost.trained / gpu.bandwidth / assumed.efficiency  # 3 passes to clip, and AdamW's 7
    reduced = ring_time(cost.trained, gpu, gpus, assumed)
    exposed = max(0.0, reduced - assumed.overlap * backward)
    return Step(forward + backward + update + assumed.host + exposed, reduced, exposed)


def ring_time(size: float, gpu: Gpu, gpus: int, assumed: Assumed) -> float:
    """All-reduce of ``size`` bytes: 2 (n - 1) transfers of an n-th (Patarasuk & Yuan 2009)."""
    slowest = gpu.link if gpus <= assumed.gpus_per_node else gpu.network
    transfers = 2 * (gpus - 1)
    return transfers * (size / gpus / (slowest * assumed.link_efficiency) + assumed.latency)


def epoch_time(cost: Cost, gpu: Gpu, gpus: int, assumed: Assumed) -> float:
    """Seconds of all steps of an epoch; loading is taken to keep up."""
    return ceil(assumed.images / (assumed.batch * gpus)) * step_time(cost, gpu, gpus, assumed).total


def memory(cost: Cost, precision: str, assumed: Assumed) -> float:
    """Bytes on each GPU, however many there are: all weights, gradients and moments, and its activations."""
    # in bf16, autocast keeps the weights once more while a step runs
    kept = (cost.activations + cost.weights) / 2 if precision == "bf16" else cost.activations
    return cost.weights + 3 * cost.trained + kept + assumed.context


def describe(costs: dict[str, Cost], size: tuple[int, int], four: Cost, assumed: Assumed) -> Iterable[str]:
    """The tables of docs/scaling.md, in its order."""
    yield "### Assumed"
    yield _table(
        "GPU, published peaks | precision | TFLOP/s | memory, GB/s | memory, GB | link, GB/s | network, GB/s",
        (
            [gpu.name, gpu.precision, f"{gpu.flops / 1e12:g}", *(f"{value / 1e9:g}" for value in gpu[3:])]
            for gpu in (V100, A100, H100)
        ),
    )
    yield _table(
        "assumed | value", ([MEANING[name], f"{value:g}"] for name, value in assumed._asdict().items())
    )
    yield "### Counted"
    yield f"A step of {assumed.batch} images, whose mean padded size is {size[0]} x {size[1]}."
    yield _table(
        "recipe | multiply-adds of one 800 x 1066 image, G | the paper's, G | step, GFLOP | moved, GB | "
        "activations, MB | weights, MB | all-reduce, MB | optimiser, MB",
        (_counted(name, cost) for name, cost in costs.items()),
    )
    yield _table(
        "recipe | fp32, GB per GPU | bf16, GB per GPU",
        (
            [name, *(f"{memory(cost, precision, assumed) / 1e9:.2f}" for precision in ("fp32", "bf16"))]
            for name, cost in costs.items()
        ),
    )
    yield "### Modelled"
    for gpu in (A100, H100):
        yield _table(
            f"detr_r50 on {gpu.name}, GPUs | step, ms | all-reduce, ms | waited for, ms | images/s | "
            "efficiency | epoch, min | 300 epochs, h",
            (_scaled(costs["detr_r50"], gpu, gpus, assumed) for gpus in COUNTS),
        )
    yield _table(
        f"minutes of an epoch on {A100.name}, GPUs | {' | '.join(map(str, COUNTS))}",
        (
            [name, *(f"{epoch_time(cost, A100, gpus, assumed) / 60:.1f}" for gpus in COUNTS)]
            for name, cost in costs.items()
        ),
    )
    days = epoch_time(four, V100, 16, assumed._replace(batch=4)) * 300 / 86400
    yield (
        f"Against a published time: DETR's 300 epochs on 16 V100 with 4 images each, in fp32, come "
        f"to {days:.1f} days here; the paper took 3."
    )


def _counted(name: str, cost: Cost) -> Sequence[str]:
    kernels = [*cost.forward, *cost.backward]
    return [
        name,
        f"{forward_flops(name, 800, 1066) / 2e9:.1f}",
        str(PUBLISHED[name]),
        f"{sum(kernel.flops for kernel in kernels) / 1e9:.0f}",
        f"{sum(kernel.bytes for kernel in kernels) / 1e9:.1f}",
        *(f"{size / 1e6:.0f}" for size in (cost.activations, cost.weights, cost.trained, 2 * cost.trained)),
    ]


def _scaled(cost: Cost, gpu: Gpu, gpus: int, assumed: Assumed) -> Sequence[str]:
    step, alone = step_time(cost, gpu, gpus, assumed), step_time(cost, gpu, 1, assumed)
    epoch = epoch_time(cost, gpu, gpus, assumed)
    return [
        str(gpus),
        *(f"{1000 * seconds:.1f}" for seconds in step),
        f"{assumed.batch * gpus / step.total:.0f}",
        f"{alone.total / step.total:.0%}",
        f"{epoch / 60:.1f}",
        f"{epoch * 300 / 3600:.1f}",
    ]


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _sample() -> Sample:
    """An image of COCO's most frequent size, lying or standing, with one object."""
    height, width = (640, 480) if torch.rand(()) < Assumed().portrait else (480, 640)
    image = tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[0.0, 0.0, width, height]]), format="XYXY", canvas_size=(height, width)
    )
    return Sample(image, boxes, torch.zeros(1, dtype=torch.long), 0, (height, width))


if __name__ == "__main__":
    main()
