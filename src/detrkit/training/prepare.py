"""Setting a run up: from settings and a dataset to the parts that the loop moves."""

import json
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
from detrkit.data.transforms import training_transform
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import read
from detrkit.models.pretrained import load_pretrained
from detrkit.settings.experiment import Experiment, parse, to_toml
from detrkit.settings.section import describe
from detrkit.settings.training import TrainSettings
from detrkit.structures import Batch
from detrkit.training import checkpoint
from detrkit.training.averaging import Average
from detrkit.training.memory import recompute_activations
from detrkit.training.optimise import build_optimizer
from detrkit.training.schedule import Length, plan
from detrkit.weights.architecture import require_same_architecture
from detrkit.weights.transfer import Row, transfer

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
    """The parts of a run. ``model`` is the detector as accelerate wraps it for precision and processes."""

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
        return training_steps(
            self.train,
            seed=self.experiment.train.seed,
            batch_size=self.experiment.data.batch_size,
            accumulate=self.experiment.train.accumulate,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            steps=steps,
            workers=self.experiment.data.workers,
            group_by_aspect=self.experiment.data.group_by_aspect,
            shards_at_once=self.experiment.data.shards_at_once,
            max_skipped=self.experiment.data.max_skipped_images,
        )

    def save(self) -> None:
        """Save the training state, once for all processes."""
        if self.accelerator.is_main_process:
            checkpoint.save(self.out / "last", self.state, self.experiment.model_dump(mode="json"))
        self.accelerator.wait_for_everyone()


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
) -> Run:
    """Everything that the loop needs. ``measure`` is asked for the number of steps where there is a budget.

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
    if resume and init is not None:
        raise DetrkitError(f"{out} is resumed with its own weights: leave out --init {init}.")
    if resume:
        experiment = _continued(experiment, out)
    else:
        _require_fresh(out)

    torch.manual_seed(experiment.train.seed)
    detector = build_detector(experiment, train.categories)
    origins = [] if resume else _start(detector, experiment, init)
    run = _assemble(experiment, out, accelerator, train, validation, detector, origins)
    if resume:
        checkpoint.restore(out / "last", run.state)
    elif experiment.train.budget is not None:
        run = _with_steps(run, measure(run))
    if accelerator.is_main_process and not resume:
        out.mkdir(parents=True, exist_ok=True)
        (out / "experiment.toml").write_text("\n".join([*_comments(run), to_toml(run.experiment)]), "utf-8")
        if init is not None:
            origins_file = {"init": str(init), "tensors": [row._asdict() for row in origins]}
            (out / "init.json").write_text(json.dumps(origins_file, indent=1), "utf-8")
    accelerator.wait_for_everyone()
    return run


def build_accelerator(settings: TrainSettings) -> Accelerator:
    """Accelerate's view of devices and processes, at this run's precision."""
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
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1", "yes")
    return torch.cuda.is_available() and "LOCAL_RANK" in os.environ and not on_cpu


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
    if (out / "experiment.toml").exists():
        raise DetrkitError(f"{out} already holds a run: resume it with --resume, or choose another --out.")


def _continued(experiment: Experiment, out: Path) -> Experiment:
    """The settings of the run to resume, which must be those asked for."""
    saved = parse(checkpoint.read_experiment(out / "last"), f"{out / 'last' / 'state.json'}")
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
    detector: Detector,
    origins: list[Row],
) -> Run:
    settings = experiment.train
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
    images_per_step = experiment.data.batch_size * settings.accumulate * accelerator.num_processes
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
        state=checkpoint.State(checkpoint.Progress(), detector, optimizer, average, accelerator.scaler),
        length=plan(settings, len(train), images_per_step),
        notes=[
            *_warnings(experiment, train, validation, detector.max_objects),
            *describe_enlarged(train, "data.short_sides", max(experiment.data.short_sides)),
            *describe_enlarged(validation, "data.eval_short_side", experiment.data.eval_short_side),
        ],
        origins=origins,
    )


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
