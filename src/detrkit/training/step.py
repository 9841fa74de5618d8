"""One optimiser step: any number of micro-batches and processes, one gradient.

Every loss is divided by the totals of the whole step, counted before the first backward pass. So the
gradient is that of one large batch, however the step is split: nothing is averaged afterwards.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from detrkit.data.collate import to_network
from detrkit.errors import NotFiniteError
from detrkit.objective.criterion import count_totals
from detrkit.objective.matching import NonFiniteCostError
from detrkit.structures import Batch, LossReport, Objects, Totals


class Agreement(NamedTuple):
    """What all processes agree on before a step."""

    totals: Totals
    stop: bool


class StepReport(NamedTuple):
    """The loss of the whole step, its unweighted terms per layer, and the gradient's norm before clipping."""

    loss: float
    terms: dict[str, list[float]]
    gradient_norm: float


class NonFiniteLossError(ArithmeticError):
    """A loss or cost that is not a number, in a batch of these images."""

    def __init__(self, what: str, image_ids: list[int]) -> None:
        super().__init__(what)
        self.image_ids = image_ids


def agree(accelerator: Accelerator, batches: list[Batch], max_objects: int, stop: bool) -> Agreement:
    """The totals of a step over all processes, and whether any process was asked to stop."""
    totals = [count_totals(batch.objects, max_objects) for batch in batches]
    counts = [sum(column) for column in zip(*totals, strict=True)]
    shared = torch.tensor([*counts, stop], dtype=torch.float64, device=accelerator.device)
    *counts, stops = accelerator.reduce(shared, "sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]
    return Agreement(Totals(*counts), stops > 0)


def take_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    batches: list[Batch],
    totals: Totals,
    clip_norm: float,
) -> StepReport:
    """Sum the gradients of the micro-batches, clip, update.

    Raises:
        NonFiniteLossError: before the update, naming the images.
    """
    optimizer.zero_grad()
    reports = []
    for number, batch in enumerate(batches, start=1):
        # Gradients travel between processes once, with the last micro-batch.
        with nullcontext() if number == len(batches) else accelerator.no_sync(model):
            report = _loss(model, batch, totals)
            # DistributedDataParallel averages over processes, but the totals already divide by all of them.
            accelerator.backward(report.total * accelerator.num_processes)
        reports.append(LossReport(report.total.detach(), report.terms))
    norm = accelerator.clip_grad_norm_(model.parameters(), clip_norm or float("inf"))
    norm = float("nan") if norm is None else float(norm)
    # A scaler of fp16 skips such a step by itself, and tries the next with a smaller scale.
    if not math.isfinite(norm) and accelerator.scaler is None:
        image_ids = [image_id for batch in batches for image_id in batch.image_ids]
        raise NonFiniteLossError(f"the gradient's norm is {norm}", image_ids)
    optimizer.step()
    return _summed(accelerator, reports, norm)


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch as a network takes it: on its device, in its precision, with normalised pixels."""
    objects = [
        Objects(image.boxes.to(device, dtype, non_blocking=True), image.labels.to(device, non_blocking=True))
        for image in batch.objects
    ]
    return batch._replace(images=to_network(batch.images, device, dtype), objects=objects)


def explain(error: NonFiniteLossError, paths: Sequence[Path]) -> NotFiniteError:
    """The sentence that names the files of a batch whose loss is not finite."""
    names = ", ".join(str(path) for path in paths)
    return NotFiniteError(
        f"{error} in the batch of {names}: look at these images and their boxes, or lower optim.lr; "
        "the weights of the last save are untouched."
    )


def _loss(model: nn.Module, batch: Batch, totals: Totals) -> LossReport:
    try:
        report = model(batch.images, batch.objects, totals)
    except NonFiniteCostError as error:
        image_ids = [batch.image_ids[position] for position in error.images]
        raise NonFiniteLossError("the matching costs are not finite", image_ids) from None
    if not torch.isfinite(report.total):
        raise NonFiniteLossError(f"the loss is {report.total.item()}", batch.image_ids)
    return report


def _summed(accelerator: Accelerator, reports: list[LossReport], norm: float) -> StepReport:
    names = list(reports[0].terms)
    total = torch.stack([report.total for report in reports]).sum()
    layers = torch.stack([torch.stack([report.terms[name] for name in names]) for report in reports]).sum(0)
    shared = torch.cat([total[None].to(layers), layers.flatten()])
    loss, *values = accelerator.reduce(shared, "sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]
    rows = torch.tensor(values, dtype=torch.float64).view(layers.shape).tolist()
    return StepReport(loss, dict(zip(names, rows, strict=True)), norm)
