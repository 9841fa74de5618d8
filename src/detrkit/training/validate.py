"""Validation during training: every process detects in its share of the images, then all are counted once."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from accelerate.utils import gather_object

from detrkit.data.loader import too_many_unread
from detrkit.detectors.detector import Detector
from detrkit.detectors.detr import DetrDetector
from detrkit.evaluation.coco import Metrics, Result, evaluate_results, to_results, write_results
from detrkit.inference.evaluate import detect_split
from detrkit.inference.matched import matched_queries
from detrkit.structures import Detections, Unread
from detrkit.training.interruption import Interruption, Stopped, asked_anywhere
from detrkit.training.prepare import Run
from detrkit.weights import store

T = TypeVar("T")

MATCHED_IMAGES = 32
"""Training images whose matching is told, at most: some 200 objects of COCO, 100 of shapes."""
MATCHED_SHARE = 50
"""One in so many of the images seen between validations. Without gradients each takes a third of the time, so
this takes about a hundredth of the run, with all that comes before the first image."""


ASKED_EVERY = 8
"""After so many images of its share, a process waits for the others and hears if one was asked to stop."""


class Validation(NamedTuple):
    """COCO's figures of what the run would keep on the whole validation split, and what it detected.

    ``raw`` are those of the weights themselves, which took ``raw_seconds``, where an average is judged.
    ``matched`` are the queries that answer for the objects of a few training images. ``unread`` says why
    images of the split could not be read; in the figures, none of their objects was found.
    """

    metrics: Metrics
    results: list[Result]
    raw: Metrics | None
    raw_seconds: float
    matched: list[list[int]]
    unread: list[str]


def validate(run: Run, interruption: Interruption) -> Validation:
    """Evaluate what is judged, and the weights that it is the average of if settings say so.

    Raises:
        Stopped: the run was asked to stop, in any process.
        UnreadableImageError: more images than settings allow cannot be read.
    """
    _share_buffers(run)
    metrics, results, unread = _evaluate(run, run.judged, interruption)
    matched = _matched(run, interruption)
    if run.average is None or not run.experiment.train.validate_raw:
        return Validation(metrics, results, None, 0.0, matched, unread)
    start = time.perf_counter()
    raw, _, later = _evaluate(run, run.detector, interruption)
    seconds = time.perf_counter() - start
    return Validation(metrics, results, raw, seconds, matched, list(dict.fromkeys([*unread, *later])))


def write_validation(folder: Path, validation: Validation) -> None:
    """Keep ``detections.json`` (COCO results) and ``metrics.json``; each is there in whole or not at all.

    Figures of a split with images that could not be read have ``unread`` beside them.
    """
    folder.mkdir(exist_ok=True)
    detections = folder / ".detections.json.tmp"
    write_results(detections, validation.results)
    figures = validation.metrics.to_dict()
    if validation.unread:
        figures["unread"] = validation.unread
    store.replace(detections, folder / "detections.json")
    store.write_text(folder / "metrics.json", json.dumps(figures, indent=2) + "\n")


def _share_buffers(run: Run) -> None:
    """Give all processes the main one's statistics of batch normalisation, as every step begins with them.

    Else each would judge, and keep apart, a detector of its own.
    """
    if run.accelerator.num_processes > 1:
        for buffer in chain(run.detector.buffers(), run.judged.buffers()):
            torch.distributed.broadcast(buffer, 0)


def _evaluate(
    run: Run, detector: Detector, interruption: Interruption
) -> tuple[Metrics, list[Result], list[str]]:
    """The figures, what they come from, and why images of the split could not be read."""
    allowed = run.experiment.data.max_skipped_images
    world = run.accelerator.num_processes
    mine_unread: list[Unread] = []
    found = detect_split(
        detector,
        run.validation,
        batch_size=run.experiment.data.batch_size,
        workers=run.experiment.data.workers,
        precision=run.experiment.train.precision,
        rank=run.accelerator.process_index,
        world=world,
        unread=mine_unread if allowed else None,
    )
    mine = [
        result
        for image_id, detections in _until_asked(found, interruption, -(-len(run.validation) // world), world)
        for result in to_results(run.validation, image_id, detections)
    ]
    reasons = [reason for _, reason in sorted(gather_object(mine_unread))]
    if len(reasons) > allowed:
        raise too_many_unread(reasons[allowed], allowed)
    place = {image_id: number for number, image_id in enumerate(run.validation.image_ids.tolist())}
    results = sorted(gather_object(mine), key=lambda result: place[result["image_id"]])
    return evaluate_results(run.validation, results), results, reasons


def _until_asked(
    found: Iterator[tuple[int, Detections]], interruption: Interruption, share: int, world: int
) -> Iterator[tuple[int, Detections]]:
    """What is found in at most ``share`` images; Stopped in all processes if one of them is asked to stop.

    They tell each other equally often, however many images each of them has. One that is asked does so at
    once, and hears with the next exchange that all others know.
    """
    every = ASKED_EVERY if world > 1 else 1
    left = share // every + 1
    for number in count(1):
        one = _alone(interruption, lambda: next(found, None))
        if one is None:
            break
        yield one
        if number % every == 0:
            left -= 1
            _stop_if(interruption.requested)
    for _ in range(left):
        _stop_if(interruption.requested)


def _alone(interruption: Interruption, work: Callable[[], T]) -> T:
    """What a process does without the others; asked to stop amid it, it leaves it and tells them so.

    They hear it in their next ``_stop_if``.
    """
    try:
        with interruption.ending_waits():
            return work()
    except Stopped:
        _stop_if(interruption.requested)
        raise


def _stop_if(asked: bool) -> None:
    if asked_anywhere(asked):
        raise Stopped


def _matched(run: Run, interruption: Interruption) -> list[list[int]]:
    """The matching of the same images at every validation, if they are a DETR's and there is time.

    It is that of the weights, not of their average, since these are what is trained by it.
    """
    seen = min(
        run.experiment.train.validate_every * len(run.train), run.length.steps * run.length.images_per_step
    )
    images = min(MATCHED_IMAGES, int(seen / MATCHED_SHARE), len(run.train))
    if not isinstance(run.detector, DetrDetector) or not images:
        return []
    matching = partial(
        matched_queries,
        run.detector,
        run.train.catalog,
        every=-(-len(run.train) // images),
        batch_size=run.experiment.data.batch_size,
        precision=run.experiment.train.precision,
        rank=run.accelerator.process_index,
        world=run.accelerator.num_processes,
        blank_unread=run.experiment.data.max_skipped_images > 0,
    )
    mine = _alone(interruption, matching)
    _stop_if(interruption.requested)
    return [queries for _, queries in sorted(gather_object(mine))]
