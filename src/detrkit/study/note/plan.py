"""``plan.json`` of a note: every run with its settings and its steps.

The file says all that decides the weights and the accuracy of a note, so that it repeats them elsewhere, on
the same data. Whoever deletes a run from it has a note without that run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

import msgspec
from msgspec import Meta

from detrkit.benchmark.results import Effort
from detrkit.errors import DetrkitError, shown
from detrkit.reading import Count, Positive, read_json, require_kind
from detrkit.settings.experiment import Experiment, parse
from detrkit.study.agreement import differences, told
from detrkit.study.note.family import Role
from detrkit.study.note.shares import Amount, Trials

_VERSION = 1


class Run(NamedTuple):
    """A training of the note: what it is, how long, and all of its settings."""

    role: Role
    amount: Amount
    settings: Experiment


class Data(NamedTuple):
    """What the splits of a dataset hold, by which another dataset in its place is noticed.

    The digests are of all but the pixels (:meth:`Catalog.digest`).
    """

    train_split: str
    val_split: str
    train_images: int
    val_images: int
    categories: list[str]
    train_digest: str
    val_digest: str


class _Run(TypedDict):
    role: Role
    steps: Positive
    validations: Positive
    seconds: Annotated[float, Meta(gt=0, le=1e12)] | None


class _Data(TypedDict):
    train_split: str
    val_split: str
    train_images: Positive
    val_images: Positive
    categories: list[str]
    train_digest: str
    val_digest: str


class _Trials(TypedDict):
    number: Annotated[int, Meta(ge=0, le=10_000)]
    steps: Count


class _File(TypedDict):
    """What the file has. Each of its ``runs`` is a ``_Run``."""

    version: Literal[1]
    plan: Literal["note", "full"]
    recipes: Annotated[list[str], Meta(min_length=1)]
    backbones: Annotated[list[str], Meta(min_length=2, max_length=2)]
    budget: str | None
    seed: Count
    set: dict[str, Any]
    command: str
    data: _Data
    machine: dict[str, str]
    paces: dict[str, dict[str, Annotated[float, Meta(ge=0, le=1e12)]]]
    trials: _Trials
    benchmark: Effort
    runs: dict[str, dict[str, Any]]
    settings: dict[str, dict[str, Any]]


class Plan(NamedTuple):
    """What was asked, on what, and the runs that follow. ``paces`` are those of the machine that planned.

    ``effort`` is how much the benchmark measures.
    """

    asked: dict[str, Any]
    command: str
    data: Data
    machine: dict[str, str]
    paces: dict[str, dict[str, float]]
    trials: Trials
    effort: Effort
    runs: dict[str, Run]

    def of(self, *roles: Role) -> dict[str, Run]:
        """The runs with these roles by name, in order."""
        return {name: run for name, run in self.runs.items() if run.role in roles}

    def name_of(self, role: Role) -> str | None:
        """The name of the only run with this role; None where there is none."""
        return next(iter(self.of(role)), None)

    @property
    def base(self) -> str:
        """The run that all others are compared with."""
        return cast("str", self.name_of("smaller"))


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan in one rename, what people look for first."""
    tree = {
        "version": _VERSION,
        **plan.asked,
        "command": plan.command,
        "data": plan.data._asdict(),
        "machine": plan.machine,
        "paces": plan.paces,
        "trials": plan.trials._asdict(),
        "benchmark": msgspec.to_builtins(plan.effort),
        "runs": {name: {"role": run.role, **run.amount._asdict()} for name, run in plan.runs.items()},
        "settings": {name: run.settings.model_dump(mode="json") for name, run in plan.runs.items()},
    }
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(
        json.dumps(tree, indent=1, ensure_ascii=False) + "\n", "utf-8", errors="backslashreplace"
    )
    temporary.replace(path)


def read_plan(path: Path) -> Plan:
    """The plan in a file; DetrkitError, naming the file, where it is none."""
    try:
        tree: _File = read_json(path, _File)
    except (OSError, ValueError) as error:
        raise DetrkitError(
            f"{path} cannot be read as the plan of a note of version {_VERSION} ({error}): restore it, or "
            "name another."
        ) from None
    plan = Plan(
        asked={name: tree[name] for name in _ASKED},
        command=tree["command"],
        data=Data(**msgspec.convert(tree["data"], _Data)),
        machine=tree["machine"],
        paces=tree["paces"],
        trials=Trials(**msgspec.convert(tree["trials"], _Trials)),
        effort=msgspec.convert(tree["benchmark"], Effort),
        runs={name: _run(name, run, tree["settings"], path) for name, run in tree["runs"].items()},
    )
    if plan.name_of("smaller") is None:
        raise DetrkitError(f"{path} has no run of the role 'smaller', which all others are compared with.")
    return plan


def require_asked(plan: Plan, asked: Mapping[str, Any], folder: Path) -> None:
    """DetrkitError, naming what differs, where the plan in ``folder`` was made for something else."""
    for name, before, now in differences(plan.asked, asked):
        raise DetrkitError(
            f"{folder} holds a study with {name} = {told(before)}, not {told(now)}: go on with what it "
            "has, or choose another --out."
        )


def require_same_runs(plan: Plan, given: Plan, folder: Path) -> None:
    """DetrkitError where ``folder`` holds a study of another plan than the one that is given."""
    if plan._replace(machine=given.machine, paces=given.paces, command=given.command) != given:
        raise DetrkitError(
            f"{folder} holds a study of another plan: go on with its own, or choose another --out."
        )


def require_same_data(plan: Plan, data: Data, source: str) -> None:
    """DetrkitError where the dataset is another than the one that was planned for."""
    for name, before, now in zip(Data._fields, plan.data, data, strict=True):
        if before != now:
            raise DetrkitError(
                f"the plan is for data with {name} = {shown(before)}, but {source} has {shown(now)}: name "
                "the same dataset with --data, or make another plan."
            )


_ASKED = ("plan", "recipes", "backbones", "budget", "seed", "set")


TRIALS = "tuning"
"""The folder of the trials in the study's own, which no run has."""

_NAME = re.compile(r"(?!\.)[^/\\:\x00-\x1f\x7f\ud800-\udfff]+")
_LONGEST = 200
"""Bytes of a run's name. It is that of its folder, which lies in the study's own."""


def _run(name: str, run: Mapping[str, Any], settings: Mapping[str, dict[str, Any]], path: Path) -> Run:
    if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST or name == TRIALS:
        raise DetrkitError(
            f"{path} names a run {shown(name)}, which is the name of no folder inside the study's: name it "
            "in letters, digits and dashes."
        )
    source = f"{path}, {name}"
    if name not in settings:
        raise DetrkitError(f"{source}: there are no settings of it: restore them.")
    try:
        require_kind(run, _Run)
    except ValueError as error:
        raise DetrkitError(f"{source}: the run is {shown(dict(run))} ({error}): restore it.") from None
    amount = Amount(run["steps"], run["validations"], run["seconds"])
    return Run(run["role"], amount, parse(settings[name], source))
