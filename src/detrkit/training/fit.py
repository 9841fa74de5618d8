"""The training loop, on one page.

A run is exact by construction: the learning rate, the order of the images, their augmentation and the
dropout are functions of the seed and the step, and all else that changes is in the checkpoint. So a run
that is interrupted anywhere and resumed ends with the same bits as one left alone.
"""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from signal import SIGTERM
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object

from detrkit.data.formats.recognise import read_split
from detrkit.data.loader import too_many_unread
from detrkit.detectors.detector import num_parameters
from detrkit.errors import ToldElsewhereError
from detrkit.machine import give_back_memory, memory_in_use
from detrkit.settings.experiment import Experiment
from detrkit.structures import Batch, Totals
from detrkit.training.budget import measure_steps
from detrkit.training.claim import Claim
from detrkit.training.determinism import determinism
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated
from detrkit.training.interruption import Interruption, Stopped
from detrkit.training.optimise import set_rates
from detrkit.training.prepare import ReadData, Run, prepare
from detrkit.training.saving import Saver
from detrkit.training.schedule import rate_factor, validates
from detrkit.training.step import NonFiniteLossError, Pending, agree, explain, take_step, to_device
from detrkit.training.validate import validate


def fit(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    resume: bool = False,
    init: str | Path | None = None,
    read_data: ReadData = read_split,
    claim: Claim | None = None,
) -> Generator[Event]:
    """Train on the dataset in ``data`` into the run folder ``out``, telling what happens as events.

    ``out`` receives ``experiment.toml``, the best ``model.safetensors`` by validation AP with what it
    detected and its figures in ``evaluation/``, and ``last/``, from which ``resume`` goes on. ``init`` is a
    file of weights to start from: all that fits is taken, rows of the class head by category name, and
    ``init.json`` says of every tensor where it is from. ``read_data`` can give
    several runs the same catalogs. ``claim`` keeps other processes from ``out``, unless that is None.
    SIGTERM, Ctrl-C, SIGUSR1 and SIGUSR2 save and end the run: after the step at hand, or at once while it
    waits for data or validates, which ``resume`` begins again. A run that was killed before its first save is
    resumed from its beginning.

    Raises:
        DetrkitError: where the data, the settings or the run folder are at fault, another process trains in
            that, more images cannot be read or more losses are not finite than settings allow, or the last
            save failed.
    """
    start = None if init is None else Path(init)
    with determinism(experiment.train.deterministic):
        run = prepare(experiment, Path(data), Path(out), resume, start, measure_steps, read_data, claim)
        progress, saver = run.state.progress, Saver(run, claim)
        yield _started(run)

        with Interruption(tells=run.accelerator.is_main_process) as interruption:
            try:
                reason = yield from _trained(run, saver, interruption)
            except Stopped:
                saver.save()
                saver.require_saved()
                yield Interrupted(progress.step, run.out, interruption.signal or SIGTERM)
                return
            saver.require_saved()
            yield Finished(progress.step, progress.best_ap, progress.best_step, reason, run.out)


def _trained(run: Run, saver: Saver, interruption: Interruption) -> Generator[Event, None, str]:
    """Take the steps that are left, and return why there are no more. Stopped if the run is asked to stop."""
    progress, length, settings = run.state.progress, run.length, run.experiment.train
    launched = None
    if progress.validation_due:
        yield from _validated(run, saver, interruption)
    left = length.steps - progress.step
    steps = _timed(
        _batches(run), left, interruption
    )  # with a name, what it keeps outlives this function's error
    for batches, data_seconds in steps:
        if settings.patience and progress.validations_without_gain >= settings.patience:
            return f"the AP did not rise for {settings.patience} validations"
        totals, stop, unread = agree(batches, run.detector.max_objects, interruption.requested)
        if stop:
            yield from _told(run, launched)
            raise Stopped

        if unread:
            yield from _skip_images(run, batches)
        previous, launched = launched, _launch(run, batches, totals, data_seconds)
        yield from _told(run, previous)  # its report came with the costs of this step
        progress.validation_due = validates(length, progress.step, settings.validate_every)
        save = progress.validation_due or progress.step % settings.checkpoint_every == 0
        if save or launched.report.is_here:
            yield from _told(run, launched)
            launched = None
        if save:
            saver.save()
        if progress.validation_due:
            yield from _validated(run, saver, interruption)
    return "every step is done"


def _started(run: Run) -> Started:
    trainable, everything = num_parameters(run.detector)
    return Started(
        step=run.state.progress.step,
        length=run.length,
        val_images=len(run.validation),
        trainable_parameters=trainable,
        parameters=everything,
        device=str(run.accelerator.device),
        processes=run.accelerator.num_processes,
        experiment=run.experiment,
        out=run.out,
        notes=run.notes,
        origins=run.origins,
        validation_due=run.state.progress.validation_due,
    )


def _batches(run: Run) -> Iterator[list[Batch]]:
    steps = range(run.state.progress.step, run.length.steps)
    return (
        [to_device(batch, run.accelerator.device, run.dtype) for batch in batches]
        for batches in run.training_steps(steps)  # which begins the workers
    )


def _timed(
    batches: Iterator[list[Batch]], steps: int, interruption: Interruption
) -> Iterator[tuple[list[Batch], float]]:
    """Each step's batches with the seconds spent waiting for them; none for a process that is asked to stop.

    Workers that hang take seconds to end. They end with the error that stopped the wait for them, which is
    kept until the run is saved.
    """
    for _ in range(
        steps
    ):  # counted, since after the last one no process waits, or tells others that it stops
        start = time.perf_counter()
        try:
            with interruption.ending_waits():
                found = next(batches)
        except Stopped:
            yield [], time.perf_counter() - start
            return
        yield found, time.perf_counter() - start


def _seed(seed: int, step: int, rank: int) -> None:
    """Make dropout, and whatever else draws at random, a function of the seed, the step and the process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]))


class _Launched(NamedTuple):
    """A step that the device may still be busy with."""

    step: int
    report: Pending
    rates: dict[str, float]
    seconds: float
    data_seconds: float
    memory: int


def _launch(run: Run, batches: list[Batch], totals: Totals, data_seconds: float) -> _Launched:
    """Take a step, without waiting for what it has to tell."""
    start, progress, experiment = time.perf_counter(), run.state.progress, run.experiment
    _seed(experiment.train.seed, progress.step, run.accelerator.process_index)
    factor = rate_factor(experiment.schedule, progress.step, run.length.steps)
    rates = set_rates(run.optimizer, factor)
    run.model.train()
    report = take_step(
        run.accelerator,
        run.model,
        run.optimizer,
        batches,
        totals,
        experiment.optim.clip_norm,
        measure_update=progress.step % experiment.train.update_ratio_every == 0,
    )
    if run.average is not None:
        run.average.update(run.detector, report.taken)
    progress.step += 1
    memory = memory_in_use(run.accelerator.device)
    seconds = time.perf_counter() - start + data_seconds
    return _Launched(progress.step, report, rates, seconds, data_seconds, memory)


def _told(run: Run, launched: _Launched | None) -> Iterator[Stepped | Skipped]:
    """The event of a step, as soon as its report is there; none where there was no step."""
    if launched is None:
        return
    try:
        report = launched.report.read()
    except NonFiniteLossError as error:
        yield _skip_step(run, launched.step, error)
        return
    yield Stepped(
        launched.step,
        run.length.epoch(launched.step),
        *report,
        learning_rates=launched.rates,
        images=run.length.images_per_step,
        seconds=launched.seconds,
        data_seconds=launched.data_seconds,
        memory=launched.memory,
    )


def _skip_step(run: Run, step: int, error: NonFiniteLossError) -> Skipped:
    """The event of a step that was left out, in all processes.

    One too many ends them all, and a process that has its images tells why.
    """
    told: list[tuple[str, list[int]]] = gather_object([(str(error), error.image_ids)])
    what = next(what for what, image_ids in told if image_ids)
    image_ids = [image_id for _, image_ids in told for image_id in image_ids]
    sentence = explain(what, run.train.catalog.paths_of(image_ids))
    progress, allowed = run.state.progress, run.experiment.train.max_skipped_steps
    progress.skipped_steps += 1
    if progress.skipped_steps > allowed:
        raise sentence if error.image_ids else ToldElsewhereError(str(sentence))
    return Skipped(step, "step", str(sentence), progress.skipped_steps, allowed)


def _skip_images(run: Run, batches: list[Batch]) -> Iterator[Skipped]:
    """An event for each image of this step, in any process, that for the first time could not be read."""
    progress, allowed = run.state.progress, run.experiment.data.max_skipped_images
    for image_id, reason in gather_object([one for batch in batches for one in batch.unread]):
        if image_id in progress.skipped_images:
            continue
        progress.skipped_images.append(image_id)
        if len(progress.skipped_images) > allowed:
            raise too_many_unread(reason, allowed)
        yield Skipped(progress.step + 1, "image", reason, len(progress.skipped_images), allowed)


def _validated(run: Run, saver: Saver, interruption: Interruption) -> Iterator[Validated]:
    """Validate, tell it, and save that it is done. The step before is saved, whatever happens here."""
    yield _validate(run, saver, interruption)
    saver.save()


def _validate(run: Run, saver: Saver, interruption: Interruption) -> Validated:
    """Evaluate what is judged, each process its share of the images, and keep it while none is better."""
    start = time.perf_counter()
    found, progress = validate(run, interruption), run.state.progress
    ap = found.metrics.AP
    gained, kept = progress.best_ap < ap, progress.best_ap <= ap
    progress.validations_without_gain = 0 if gained else progress.validations_without_gain + 1
    progress.validation_due = False
    if kept:
        progress.best_ap, progress.best_step = ap, progress.step
        progress.judged_on = run.validation.digest()
        saver.keep(found)
    give_back_memory()
    return Validated(
        step=progress.step,
        epoch=run.length.epoch(progress.step),
        metrics=found.metrics,
        kept=kept,
        seconds=time.perf_counter() - start,
        raw=found.raw,
        raw_seconds=found.raw_seconds,
        matched=found.matched,
        unread=found.unread,
    )
