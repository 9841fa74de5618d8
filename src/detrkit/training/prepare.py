"""Setting a run up: from settings and a dataset to the parts that the loop moves."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, KwargsHandler
from torch import nn

from detrkit.catalog import Catalog, require_same_categories
from detrkit.data.check.examine import quick_check
from detrkit.data.check.faults import CROWDS
from detrkit.data.check.findings import blocks
from detrkit.data.dataset import SplitDataset, describe_enlarged, require_images, require_objects
from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.data.loader import training_steps
from detrkit.data.order import Parts, divide
from detrkit.data.transforms import training_transform
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import read
from detrkit.models.pretrained import load_pretrained
from detrkit.settings.experiment import Experiment
from detrkit.settings.training import TrainSettings
from detrkit.structures import Batch
from detrkit.training import beginning, checkpoint
from detrkit.training.averaging import Average
from detrkit.training.claim import Claim
from detrkit.training.memory import recompute_activations
from detrkit.training.optimise import build_optimizer
from detrkit.training.schedule import Length, plan
from detrkit.weights.architecture import require_same_architecture
from detrkit.weights.transfer import Row, transfer


@dataclass(frozen=True)
class Run:
    """The parts of a run. ``model`` is the detector as accelerate wraps it for precision and processes.

    ``parts`` is what this process does of a step, and each of the others.
    """

    experiment: Experiment
    out: Path
    accelerator: Accelerator
    train: SplitDataset
    validation: Catalog
    detector: Detector
    model: nn.Module
    optimizer: AcceleratedOptimizer
    average: Average | None
    state: checkpoint.State
    length: Length
    parts: Parts
    notes: list[str]
    origins: list[Row]

    @property
    def judged(self) -> Detector:
        """What is validated and kept: the moving average where there is one, else the detector."""
        return self.detector if self.average is None else self.average.module

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return torch.float64 if self.experiment.train.precision == "fp64" else torch.float32

    def training_steps(self, steps: range) -> Iterator[list[Batch]]:
        """The micro-batches of this process for each of ``steps``, loaded ahead."""
        data = self.experiment.data
        return training_steps(
            self.train,
            seed=self.experiment.train.seed,
            batch_size=self.parts.batch_size,
            accumulate=self.parts.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            steps=steps,
            workers=data.workers,
            group_size=data.batch_size if data.group_by_aspect else 0,
            shards_at_once=data.shards_at_once,
            max_skipped=data.max_skipped_images,
        )


Measure = Callable[[Run], int]
"""Turns the budget of a run into steps."""

ReadData = Callable[[Path, str], Catalog]
"""Reads a split of a dataset."""


def prepare(
    experiment: Experiment,
    data: Path,
    out: Path,
    resume: bool,
    init: Path | None,
    measure: Measure,
    read_data: ReadData = read_split,
    claim: Claim | None = None,
) -> Run:
    """Everything that the loop needs. ``measure`` is asked for the number of steps where there is a budget.

    ``claim`` is taken before anything of the run folder is read or written, but for a look at whether it is
    free; None is for a folder that is nobody else's.

    A run that is resumed before it was ever saved starts from its beginning, with the settings, the number of
    steps and the weights that it began with.

    Raises:
        DetrkitError: where the dataset, the settings, the weights or the run folder are at fault.
    """
    accelerator = build_accelerator(experiment.train)
    experiment = _with_splits(experiment, data)
    train = read_data(data, experiment.data.train_split)
    validation = read_data(data, experiment.data.val_split)
    require_same_categories(validation.categories, train.categories, f"{validation.source}")
    for catalog in (train, validation):
        require_images(catalog, may_lack=experiment.data.max_skipped_images)
    require_objects(train)
    images_per_step = experiment.data.batch_size * experiment.train.accumulate * accelerator.num_processes
    budget = experiment.train.budget
    if resume:
        if claim is not None and accelerator.is_main_process and out.is_dir():
            claim.take()
        accelerator.wait_for_everyone()  # a job that is about to end would still change the state
        experiment, init = beginning.continued(experiment, init, out)
    else:
        beginning.require_fresh(out)
    saved = resume and checkpoint.is_saved(out / "last")
    begun = beginning.read(out, required=not saved) if resume else beginning.Begun()
    before = checkpoint.read_images_per_step(out / "last") if saved else begun.images_per_step
    images_per_step = before or images_per_step

    torch.manual_seed(experiment.train.seed)
    detector = build_detector(experiment, train.categories)
    origins = [] if saved else _start(detector, experiment, init)
    run = _assemble(experiment, out, accelerator, train, validation, images_per_step, detector, origins)
    if saved:
        checkpoint.restore(out / "last", run.state)
        _require_within(run)
        run.notes.extend(_judged_anew(run))
    elif experiment.train.budget is not None:
        run = _with_steps(run, measure(run))
    begins = not (resume and (saved or beginning.has_begun(out)))
    if accelerator.is_main_process and begins:
        now = beginning.Begun(run.length.images_per_step, train.digest(), validation.digest())
        beginning.write(out, run.experiment, run.notes, now, init, origins, claim)
    elif accelerator.is_main_process:
        beginning.write_settings_again(out, run.experiment)
    if resume and not saved:
        run.notes.append("No step of this run was saved before: it starts from its beginning.")
    if budget is not None and run.experiment.train.budget is None and not begins:
        run.notes.append(f"The run keeps the {run.length.steps} steps that it began with, not {budget}.")
    run.notes.extend(begun.changed(train, validation))
    accelerator.wait_for_everyone()
    return run


def build_accelerator(settings: TrainSettings) -> Accelerator:
    """Accelerate's view of devices and processes, at this run's precision."""
    _require_whole_detectors()
    # Totals are counted on the hosts: with gloo beside nccl, their sum asks no device.
    handlers: list[KwargsHandler] = (
        [InitProcessGroupKwargs(backend="cuda:nccl,cpu:gloo")] if _on_many_gpus() else []
    )
    # accelerate keeps the first accelerator's precision for the whole process, and another run may follow.
    AcceleratorState._reset_state()
    mixed = settings.precision if settings.precision in ("bf16", "fp16") else "no"
    accelerator = Accelerator(mixed_precision=mixed, kwargs_handlers=handlers)
    if mixed == "fp16" and accelerator.device.type == "cpu":
        raise DetrkitError("train.precision is fp16, which a CPU does not compute in: take bf16 or fp32.")
    return accelerator


def _on_many_gpus() -> bool:
    return torch.cuda.is_available() and "LOCAL_RANK" in os.environ and not _is_set("ACCELERATE_USE_CPU")


def _require_whole_detectors() -> None:
    """Refuse what would spread a detector over processes: accelerate takes it from the environment."""
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if _is_set(f"ACCELERATE_USE_{name}"):
            raise DetrkitError(
                f"ACCELERATE_USE_{name} is set, but detrkit trains with the whole detector in every process: "
                f"launch it with torchrun or accelerate launch --multi_gpu, without {name}."
            )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1", "yes")


def _start(detector: Detector, experiment: Experiment, init: Path | None) -> list[Row]:
    """Load the starting weights, and say of each tensor where it is from if another detector has them."""
    if init is None:
        load_pretrained(detector.backbone, experiment.model.backbone)
        return []
    source = read(init)
    require_same_architecture(source.experiment, experiment, init)
    started = transfer(source, detector.state_dict(), experiment, detector.categories)
    detector.load_state_dict(started.tensors)
    return started.rows


def _with_splits(experiment: Experiment, data: Path) -> Experiment:
    splits = {
        "train_split": choose_split(data, experiment.data.train_split, ("train2017", "train")),
        "val_split": choose_split(data, experiment.data.val_split, ("val2017", "val")),
    }
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=splits)})


def _require_within(run: Run) -> None:
    if run.state.progress.step > run.length.steps:
        raise DetrkitError(
            f"{run.out / 'last' / 'state.json'} is of step {run.state.progress.step:,} of a run that has "
            f"{run.length.steps:,}: restore it from a copy, or start another run."
        )


def _judged_anew(run: Run) -> list[str]:
    """Forget the best AP of a run whose validation split is another now, and say so."""
    progress, digest = run.state.progress, run.validation.digest()
    if progress.judged_on in ("", digest):
        return []
    note = (
        f"The best AP so far, {progress.best_ap:.3f}, is of another validation split and counts no more: "
        "what is validated next is kept."
    )
    progress.best_ap, progress.best_step, progress.validations_without_gain = -1.0, 0, 0
    progress.judged_on = digest
    return [note]


def _assemble(
    experiment: Experiment,
    out: Path,
    accelerator: Accelerator,
    train: Catalog,
    validation: Catalog,
    images_per_step: int,
    detector: Detector,
    origins: list[Row],
) -> Run:
    settings = experiment.train
    parts = divide(images_per_step, accelerator.num_processes, experiment.data.batch_size)
    progress = checkpoint.Progress(images_per_step=images_per_step)
    if settings.precision == "fp64":
        detector.double()
    # Before accelerate wraps ``forward``: a copy made later would call the original's weights.
    average = Average(detector.to(accelerator.device), settings.ema) if settings.ema else None
    optimizer = build_optimizer(detector, experiment.optim)
    if settings.activation_checkpointing:
        recompute_activations(detector)
    if settings.compile:
        detector.compile(dynamic=True)
    model, prepared = accelerator.prepare(detector, optimizer)
    return Run(
        experiment=experiment,
        out=out,
        accelerator=accelerator,
        train=SplitDataset(train, training_transform(experiment.data), settings.seed),
        validation=validation,
        detector=detector,
        model=model,
        optimizer=prepared,
        average=average,
        state=checkpoint.State(progress, detector, optimizer, average, accelerator.scaler),
        length=plan(settings, len(train), images_per_step),
        parts=parts,
        notes=[
            *_redivided(experiment, parts, accelerator.num_processes),
            *_warnings(experiment, train, validation, detector.max_objects),
            *describe_enlarged(train, "data.short_sides", max(experiment.data.short_sides)),
            *describe_enlarged(validation, "data.eval_short_side", experiment.data.eval_short_side),
        ],
        origins=origins,
    )


def _redivided(experiment: Experiment, parts: Parts, processes: int) -> list[str]:
    """How a step is done where it is not by as many processes as began the run."""
    asked = Parts(experiment.data.batch_size, experiment.train.accumulate)
    if parts == asked:
        return []
    return [
        f"A step still has the {parts.batch_size * parts.accumulate * processes} images that the run began "
        f"with. So data.batch_size is {parts.batch_size} instead of {asked.batch_size}, and train.accumulate "
        f"is {parts.accumulate} instead of {asked.accumulate}."
    ]


def _warnings(experiment: Experiment, train: Catalog, validation: Catalog, max_objects: int) -> list[str]:
    """What the annotations alone say against training on them as they stand, and what of them is left out."""
    catalogs = {experiment.data.train_split: train, experiment.data.val_split: validation}
    found = quick_check(catalogs, max_objects)
    told = [one.sentence for one in found if one.fault.severity != "note" or one.fault is CROWDS]
    return [*told, "How each is mended, `detrkit data check` says."] if blocks(found) else told


def _with_steps(run: Run, steps: int) -> Run:
    note = f"The budget of {run.experiment.train.budget} is {steps} steps on this machine."
    train = run.experiment.train.model_copy(update={"budget": None, "max_steps": steps})
    return replace(
        run,
        experiment=run.experiment.model_copy(update={"train": train}),
        length=run.length._replace(steps=steps),
        notes=[*run.notes, note],
    )
