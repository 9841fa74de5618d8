"""One optimiser step: any number of micro-batches and processes, one gradient.

Every loss is divided by the totals of the whole step, counted before the first backward pass. So the
gradient is that of one large batch, however the step is split: nothing is averaged afterwards.

On a GPU, a step waits for the device once per micro-batch, when the costs of the matching come to the host.
What a step has to tell travels without waiting and is read when the next step's costs have arrived.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from jaxtyping import Float
from torch import Tensor, nn

from detrkit.data.collate import to_network
from detrkit.errors import NotFiniteError
from detrkit.objective.criterion import count_totals
from detrkit.structures import Batch, LossReport, Objects, Totals
from detrkit.training.norms import (
    clip_gradients,
    copy_statistics,
    copy_weights,
    groups_of,
    restore_statistics,
    update_ratios,
)

LOWEST_SCALE = 1.0
"""Of the loss in fp16, which begins at 65,536: below it, it is not the scale that gradients overflow by."""


class Agreement(NamedTuple):
    """What all processes agree on before a step."""

    totals: Totals
    stop: bool
    unread: bool
    """Whether an image of the step cannot be read."""


class StepReport(NamedTuple):
    """The loss of the whole step, its unweighted terms per layer, and how large gradient and update were.

    The gradient's norm is before clipping, of all parameters and of each group of the optimiser. The update
    ratio of a group is the norm of its change over its norm before; None where it was not measured.
    """

    loss: float
    terms: dict[str, list[float]]
    gradient_norm: float
    gradient_norms: dict[str, float]
    update_ratios: dict[str, float] | None


class NonFiniteLossError(ArithmeticError):
    """A loss, cost or gradient that is not a number, in a batch of these images of this process, if any."""

    def __init__(self, what: str, image_ids: list[int]) -> None:
        super().__init__(what)
        self.image_ids = image_ids


class Pending:
    """What a step has to tell, on its way to the host.

    ``taken`` is there already, on the device: 1, or 0 if the update was left out, since it was not finite.
    """

    def __init__(
        self,
        values: "_Values",
        groups: list[str],
        terms: list[str],
        image_ids: list[list[int]],
        unmatched: list[list[int]],
        taken: Float[Tensor, ""],
    ) -> None:
        self.taken = taken
        self._values, self._arrived = _send(torch.cat(values))
        self._sizes = [len(part) for part in values]
        self._groups = groups
        self._terms = terms
        self._image_ids = image_ids
        self._unmatched = unmatched

    @property
    def is_here(self) -> bool:
        """Whether it can be read without waiting, as it always can where the CPU is the device."""
        return self._arrived is None

    def read(self) -> StepReport:
        """The report, as soon as it is there.

        Raises:
            NonFiniteLossError: in every process alike, naming the images of the micro-batch at fault, or of
                all if the gradient is, or none if the loss of another process is. The step has changed
                nothing then.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        parts = self._values.double().split(self._sizes)
        told = _Values(*(part.tolist() for part in parts))
        norm, *norms = told.norms
        (loss,) = told.loss
        for one, image_ids, unmatched in zip(told.losses, self._image_ids, self._unmatched, strict=True):
            if unmatched:
                raise NonFiniteLossError("the matching costs are not finite", unmatched)
            _require_finite(one, "the loss", image_ids)
        _require_finite(loss, "the loss of another process", [])
        # A scaler of fp16 left such a step out by itself, and tries the next with a smaller scale.
        if not told.scale or told.scale[0] < LOWEST_SCALE:
            _require_finite(norm, "the gradient's norm", [one for ids in self._image_ids for one in ids])
        rows = torch.tensor(told.terms, dtype=torch.float64).view(len(self._terms), -1).tolist()
        return StepReport(
            loss=loss,
            terms=dict(zip(self._terms, rows, strict=True)),
            gradient_norm=norm,
            gradient_norms=dict(zip(self._groups, norms, strict=True)),
            update_ratios=dict(zip(self._groups, told.ratios, strict=True)) if told.ratios else None,
        )


def agree(batches: list[Batch], max_objects: int, stop: bool) -> Agreement:
    """The totals of a step over all processes, and whether any was asked to stop or lacks an image.

    The host knows all of it, so processes tell each other from host to host: no device is asked. A process
    that stops needs no batches to say so.
    """
    totals = [Totals(0, 0, 0), *(count_totals(batch.objects, max_objects) for batch in batches)]
    counts = [sum(column) for column in zip(*totals, strict=True)]
    unread = any(batch.unread for batch in batches)
    shared = torch.tensor([*counts, stop, unread], dtype=torch.float64)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(shared)
    *counts, stops, lacking = shared.tolist()
    return Agreement(Totals(*counts), stops > 0, lacking > 0)


def take_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    batches: list[Batch],
    totals: Totals,
    clip_norm: float,
    measure_update: bool = False,
) -> Pending:
    """Sum the gradients of the micro-batches, clip, update. Where a loss or a gradient is not finite, nothing
    changes, and the report says so when it is read.

    The optimiser must be one of torch's fused ones, which can leave out an update without asking the host,
    and its groups must have names. ``measure_update`` keeps a copy of the weights while they are updated.
    """
    optimizer.zero_grad()
    statistics = copy_statistics(model)
    reports = []
    for number, batch in enumerate(batches, start=1):
        # Gradients travel between processes once, with the last micro-batch.
        with nullcontext() if number == len(batches) else accelerator.no_sync(model):
            report = model(batch.images, batch.objects, totals)
            # DistributedDataParallel averages over processes, but the totals already divide by all of them.
            accelerator.backward(report.total * accelerator.num_processes)
        reports.append(report._replace(total=report.total.detach()))
    accelerator.unscale_gradients()
    groups = groups_of(optimizer)
    norm, norms = clip_gradients(model.parameters(), groups, clip_norm)
    losses = _gather(accelerator, reports)
    taken = (torch.isfinite(norm) & torch.isfinite(losses.loss).all()).to(norm)
    _leave_out(accelerator, optimizer.optimizer, 1 - taken.float())
    before = copy_weights(groups) if measure_update else None
    optimizer.step()
    restore_statistics(statistics, taken)
    ratios = {} if before is None else update_ratios(groups, before)
    return Pending(
        _Values(
            norms=_vector([norm, *norms.values()], losses.loss),
            ratios=_vector(list(ratios.values()), losses.loss),
            losses=losses.own,
            loss=losses.loss,
            terms=losses.terms,
            scale=_vector(_scale(accelerator), losses.loss),
        ),
        groups=list(groups),
        terms=list(reports[0].terms),
        image_ids=[batch.image_ids for batch in batches],
        unmatched=[
            [batch.image_ids[position] for position in report.unmatched]
            for batch, report in zip(batches, reports, strict=True)
        ],
        taken=taken,
    )


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch as a network takes it: on its device, in its precision, with normalised pixels."""
    objects = [
        Objects(image.boxes.to(device, dtype, non_blocking=True), image.labels.to(device, non_blocking=True))
        for image in batch.objects
    ]
    return batch._replace(images=to_network(batch.images, device, dtype), objects=objects)


def explain(what: str, paths: Sequence[Path]) -> NotFiniteError:
    """The sentence that names the files of a batch whose loss is not finite."""
    names = ", ".join(str(path) for path in paths)
    return NotFiniteError(
        f"{what} in the batch of {names}: look at these images and their boxes, or lower optim.lr; "
        "the step has changed nothing."
    )


class _Values(NamedTuple):
    """What travels to the host, as one vector: there as lists, here as tensors. ``scale`` is fp16's."""

    norms: Any
    ratios: Any
    losses: Any
    loss: Any
    terms: Any
    scale: Any


class _Losses(NamedTuple):
    """The losses of this process's micro-batches, and of all processes together the loss and the terms."""

    own: Float[Tensor, " micro"]
    loss: Float[Tensor, "1"]
    terms: Float[Tensor, " terms"]


def _gather(accelerator: Accelerator, reports: list[LossReport]) -> _Losses:
    losses = torch.stack([report.total for report in reports])
    layers = torch.stack([torch.stack(list(report.terms.values())) for report in reports]).sum(0)
    shared: Any = accelerator.reduce(torch.cat([losses.sum()[None].to(layers), layers.flatten()]), "sum")
    return _Losses(losses.to(layers), shared[:1], shared[1:])


def _leave_out(accelerator: Accelerator, optimizer: Any, wanted: Float[Tensor, ""]) -> None:
    """Have the next update left out if ``wanted`` is 1; a scaler then makes its scale smaller."""
    scaler: Any = accelerator.scaler
    if scaler is None:
        optimizer.found_inf = wanted
        return
    for found in scaler._found_inf_per_device(optimizer).values():
        found.copy_(torch.maximum(found, wanted))


def _scale(accelerator: Accelerator) -> list[Tensor]:
    """What the loss is multiplied by in fp16, on the device; nothing in other precisions."""
    scaler: Any = accelerator.scaler
    return [] if scaler is None else [scaler._get_scale_async()]


def _vector(values: list[Tensor], like: Tensor) -> Float[Tensor, " N"]:
    return torch.stack(values).to(like) if values else like.new_empty(0)


def _send(values: Float[Tensor, " N"]) -> tuple[Float[Tensor, " N"], torch.Event | None]:
    """The values on the host, and what tells that they have arrived there; nothing waits for them."""
    if values.device.type == "cpu":
        return values, None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    arrived = torch.Event(values.device)
    arrived.record()
    return host, arrived


def _require_finite(value: float, what: str, image_ids: list[int]) -> None:
    if not math.isfinite(value):
        raise NonFiniteLossError(f"{what} is {value}", image_ids)
