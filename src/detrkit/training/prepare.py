"""Setting a run up: from settings and a dataset to the parts that the loop moves."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from detrkit.settings.experiment import Experiment, parse, recipe, to_toml
from detrkit.settings.section import describe
from detrkit.settings.training import TrainSettings
from detrkit.structures import Batch
from detrkit.training import checkpoint
from detrkit.training.averaging import Average
from detrkit.training.claim import Claim
from detrkit.training.memory import recompute_activations
from detrkit.training.optimise import build_optimizer
from detrkit.training.schedule import Length, plan
from detrkit.weights import store
from detrkit.weights.architecture import require_same_architecture
from detrkit.weights.transfer import Row, transfer

logger = logging.getLogger(__name__)

_SETTINGS, _ORIGINS, _BEGUN = "experiment.toml", "init.json", "begun.json"

_MAY_CHANGE = {
    "data.workers",
    "data.max_skipped_images",
    "train.max_skipped_steps",
    "train.checkpoint_every",
    "train.update_ratio_every",
    "train.validate_raw",
    "train.trackers",
}
"""Settings that a resumed run may change, since no weight that it has depends on them."""


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
        if accelerator.is_main_process and out.is_dir():
            _take(claim)
        accelerator.wait_for_everyone()  # a job that is about to end would still change the state
        experiment, init = _continued(experiment, init, out)
    else:
        _require_fresh(out)
    saved = resume and checkpoint.is_saved(out / "last")
    begun = _read_begun(out, required=not saved) if resume else {}
    before = checkpoint.read_images_per_step(out / "last") if saved else begun.get("images_per_step")
    images_per_step = before or images_per_step

    torch.manual_seed(experiment.train.seed)
    detector = build_detector(experiment, train.categories)
    origins = [] if saved else _start(detector, experiment, init)
    run = _assemble(experiment, out, accelerator, train, validation, images_per_step, detector, origins)
    if saved:
        checkpoint.restore(out / "last", run.state)
        run.notes.extend(_judged_anew(run))
    elif experiment.train.budget is not None:
        run = _with_steps(run, measure(run))
    begins = not (resume and (saved or _has_begun(out)))
    if accelerator.is_main_process and begins:
        _write_beginning(run, init, claim)
    if resume and not saved:
        run.notes.append("No step of this run was saved before: it starts from its beginning.")
    if budget is not None and run.experiment.train.budget is None and not begins:
        run.notes.append(f"The run keeps the {run.length.steps} steps that it began with, not {budget}.")
    run.notes.extend(_changed(begun, {"train": train, "validation": validation}))
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


def _require_fresh(out: Path) -> None:
    if _has_begun(out) or checkpoint.is_saved(out / "last"):
        raise DetrkitError(f"{out} already holds a run: resume it with --resume, or choose another --out.")


def _has_begun(out: Path) -> bool:
    return (out / _SETTINGS).exists()


def _take(claim: Claim | None) -> None:
    if claim is not None:
        claim.take()


def _write_beginning(run: Run, init: Path | None, claim: Claim | None) -> None:
    """Write what a run begins with. Where the settings are there, so is all else."""
    try:
        run.out.mkdir(parents=True, exist_ok=True)
        store.flush(run.out.parent)
        _take(claim)
        _require_fresh(run.out)  # another job may have begun there since
        (run.out / _ORIGINS).unlink(missing_ok=True)
        if init is not None:
            # the name of published weights is no file
            source = str(init.resolve() if init.exists() else init)
            origins = {"init": source, "tensors": [row._asdict() for row in run.origins]}
            store.write_text(run.out / _ORIGINS, json.dumps(origins, indent=1))
        store.write_text(run.out / _BEGUN, json.dumps(_beginning(run), indent=1))
        store.write_text(run.out / _SETTINGS, "\n".join([*_comments(run), to_toml(run.experiment)]))
    except OSError as error:
        raise DetrkitError(
            f"the run folder {run.out} cannot be written to ({error.strerror}): make room, or choose another "
            "--out."
        ) from None


def _beginning(run: Run) -> dict[str, Any]:
    """What a resumed run is held against, besides its settings: the size of its steps and its dataset."""
    digests = {"train": run.train.catalog.digest(), "validation": run.validation.digest()}
    return {"images_per_step": run.length.images_per_step, **digests}


def _read_begun(out: Path, required: bool) -> dict[str, Any]:
    """What ``_beginning`` said; nothing in folders of older runs.

    A damaged one that is not required is warned of.
    """
    path = out / _BEGUN
    try:
        found = json.loads(path.read_text("utf-8")) if path.exists() and _has_begun(out) else {}
        if not isinstance(found.get("images_per_step", 1), int):
            raise TypeError("images_per_step is no whole number")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        if required:
            raise DetrkitError(
                f"{path} cannot be read ({error}): restore it, or begin another run."
            ) from None
        logger.warning("%s cannot be read (%s): whether the dataset has changed is not known.", path, error)
        return {}
    return found


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


def _changed(begun: dict[str, Any], splits: dict[str, Catalog]) -> list[str]:
    """A note on each split that is not the one that the run began with."""
    return [
        f"{catalog.source} is not what this run began with: the order of images and the figures change."
        for split, catalog in splits.items()
        if split in begun and begun[split] != catalog.digest()
    ]


def _continued(experiment: Experiment, init: Path | None, out: Path) -> tuple[Experiment, Path | None]:
    """The settings and the starting weights of the run to resume, which must be those asked for.

    A folder in which nothing has begun, as of a run that was killed while it read its data, takes any.
    """
    if checkpoint.is_saved(out / "last"):
        saved = parse(checkpoint.read_experiment(out / "last"), f"{out / 'last' / 'state.json'}")
    elif _has_begun(out):
        saved = recipe(out / _SETTINGS)
    elif out.is_dir():
        return experiment, init
    else:
        raise DetrkitError(f"there is no training state to resume from in {out}: start without --resume.")
    return _same_settings(experiment, saved, out), _same_start(init, out)


def _same_start(init: Path | None, out: Path) -> Path | None:
    """The weights that the run started from."""
    file = out / _ORIGINS
    before = Path(json.loads(file.read_text("utf-8"))["init"]) if file.exists() else None
    if init is not None and (before is None or init.resolve() != before.resolve()):
        raise DetrkitError(
            f"{out} started from {before or 'no file of weights'} and is resumed with its own weights: "
            f"leave out --init {init}."
        )
    return before


def _same_settings(experiment: Experiment, saved: Experiment, out: Path) -> Experiment:
    """The settings to go on with."""
    if experiment.train.budget is not None and saved.train.max_steps is not None:
        # a budget was turned into steps when the run began, and counts no more
        train = experiment.train.model_copy(update={"budget": None, "max_steps": saved.train.max_steps})
        experiment = experiment.model_copy(update={"train": train})
    before = {name: value for name, value, _ in describe(saved)}
    for name, value, _ in describe(experiment):
        if name not in _MAY_CHANGE and before.get(name) != value:
            raise DetrkitError(
                f"{out} was trained with {name} = {before.get(name)}, not {value}: resume it with the "
                "settings it has, or start another run."
            )
    return experiment


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


def _comments(run: Run) -> list[str]:
    return [f"# {note}" for note in run.notes]
