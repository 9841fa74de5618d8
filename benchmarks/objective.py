"""Matching and loss of all decoder layers, forward and backward to logits and boxes, without a network."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from contestants import as_labels, build_ours, draw_objects
from harness import Row, parse, record, seconds, speedup, spread, take_turns
from torch import Tensor
from transformers import DetrConfig
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

from detrkit.objective.criterion import count_totals
from detrkit.structures import DetrOutput, Objects

QUERIES, CLASSES = 100, 91


class Answers(NamedTuple):
    """What a network said of a batch, and what was there."""

    logits: Tensor
    boxes: Tensor
    objects: list[Objects]


def main(options: Namespace) -> None:
    layers, images, number = (2, 4, 3) if options.short else (6, 64, 20)
    batches = (2, 4) if options.short else (16, 32, 64, 128, 256)
    criterion = build_ours(options.device, short=True).criterion
    answers = draw_answers(layers, images, number, options.device)
    times = take_turns({"peer": peer_loss(answers), "detrkit": our_loss(criterion, answers)}, options)
    of_batches = take_turns(
        {
            str(batch): our_loss(criterion, draw_answers(layers, batch, number, options.device))
            for batch in batches
        },
        options,
    )
    rows = [
        speedup(
            f"match and loss, {layers} layers, {images} images x {number} objects",
            times,
            peer="peer",
            ours="detrkit",
            target=15,
        ),
        _growth(of_batches),
    ]
    record(options, rows, seconds=times, seconds_of_batches=of_batches)


def draw_answers(layers: int, images: int, number: int, device: str) -> Answers:
    """Answers at random, and ``number`` objects in every image."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(layers, images, QUERIES, CLASSES + 1, generator=generator)
    boxes = torch.rand(layers, images, QUERIES, 4, generator=generator) * 0.5 + 0.1
    return Answers(
        logits.to(device).requires_grad_(),
        boxes.to(device).requires_grad_(),
        draw_objects([number] * images, device),
    )


def our_loss(criterion: Any, answers: Answers) -> Callable[[], object]:
    """detrkit's loss, and its gradient."""
    totals = count_totals(answers.objects, QUERIES)

    def run() -> tuple[Tensor, ...]:
        loss = criterion(DetrOutput(answers.logits, answers.boxes), answers.objects, totals).total
        return loss, *torch.autograd.grad(loss, answers[:2])

    return run


def peer_loss(answers: Answers) -> Callable[[], object]:
    """transformers' loss with its auxiliary terms, and its gradient."""
    logits, boxes, objects = answers
    config = DetrConfig(num_labels=CLASSES, decoder_layers=len(logits), auxiliary_loss=True)
    labels = as_labels(objects)

    def run() -> tuple[Tensor, ...]:
        device = logits.device
        loss, *_ = ForObjectDetectionLoss(logits[-1], labels, device, boxes[-1], config, logits, boxes)
        return loss, *torch.autograd.grad(loss, answers[:2])

    return run


def _growth(times: dict[str, list[float]]) -> Row:
    """The power of the batch that the time grows with: the slope of a line through their logarithms."""
    batches = np.log([int(batch) for batch in times])
    slopes = [float(np.polyfit(batches, np.log(turn), 1)[0]) for turn in zip(*times.values(), strict=True)]
    first, last = (
        f"{seconds(spread(turns).median)} at {batch}"
        for batch, turns in (list(times.items())[i] for i in (0, -1))
    )
    smallest, *_, largest = times
    return Row(
        f"power of the batch that match and loss grow with, {smallest} to {largest} images",
        spread(slopes),
        1.1,
        "",
        at_most=True,
        ours=f"{first}, {last}",
    )


if __name__ == "__main__":
    main(parse(__doc__, repeats=15))
