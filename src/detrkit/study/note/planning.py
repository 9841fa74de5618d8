"""The plan of a note: made by measuring, or by the recipes' own lengths."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from detrkit.benchmark.results import Effort
from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.machine import describe_machine
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import Experiment
from detrkit.settings.training import parse_duration
from detrkit.study.events import Measuring
from detrkit.study.note.family import Member, members_of
from detrkit.study.note.plan import Data, Plan, Run
from detrkit.study.note.request import Request
from detrkit.study.note.shares import (
    TUNING,
    Amount,
    Trials,
    amount_within,
    full_amount,
    full_trials,
    share_of,
    trials_within,
)
from detrkit.tuning.pace import Pace, measure


def make_plan(request: Request, data: Data, listener: Callable[[Measuring], None]) -> Plan:
    """What the request leads to on this machine.

    Raises:
        DetrkitError: where the recipes, the data or the budget are at fault.
        KeyboardInterrupt: when asked to stop; nothing is kept.
    """
    begun = monotonic()
    overrides = {**request.overrides, "train.seed": request.seed, "train.validate_raw": False}
    members = members_of(request.recipes, request.backbones, overrides)
    paces: dict[str, Pace] = {}
    if request.budget is None:
        amounts = {name: full_amount(member.settings, data.train_images) for name, member in members.items()}
        trials = full_trials(next(iter(amounts.values())).steps)
    else:
        paces = measure_all(members, request.data, listener)
        left = parse_duration(request.budget) - (monotonic() - begun)
        amounts, trials = within(left, members, paces, data)
    runs = {name: Run(members[name].role, amount, members[name].settings) for name, amount in amounts.items()}
    return Plan(
        asked=request.asked(),
        command=request.command,
        data=data,
        machine=describe_machine(),
        paces={name: pace._asdict() for name, pace in paces.items()},
        trials=trials,
        effort=Effort(),
        runs=runs,
    )


def within(
    seconds: float, members: Mapping[str, Member], paces: Mapping[str, Pace], data: Data
) -> tuple[dict[str, Amount], Trials]:
    """How long every run is, and the trials, in so many seconds.

    Where there is no room for trials, there is no run with tuned settings, and the others have its time.
    """
    base = next(name for name, member in members.items() if member.role == "smaller")
    share = share_of(seconds, len(members), tuning=True)
    steps = amount_within(share, paces[base]).steps
    trials = trials_within(TUNING * share, steps, paces[base], data.val_images, data.train_images)
    if not trials.number:
        members = {name: member for name, member in members.items() if member.role != "tuned"}
        share = share_of(seconds, len(members), tuning=False)
    return {name: amount_within(share, paces[name]) for name in members}, trials


def measure_all(
    members: Mapping[str, Member], data: Path, listener: Callable[[Measuring], None]
) -> dict[str, Pace]:
    """The pace of every member; those with the same settings are measured once."""
    paces: dict[str, Pace] = {}
    known: list[tuple[Experiment, Pace]] = []
    for name, member in members.items():
        pace = next((pace for settings, pace in known if settings == member.settings), None)
        if pace is None:
            listener(Measuring(name))
            pace = measure(member.settings, lambda experiment, folder: fit(experiment, data, folder))
            known.append((member.settings, pace))
        paces[name] = pace
    return paces


def data_of(data: Path, train_split: str = "", val_split: str = "") -> Data:
    """What the splits of a dataset hold; where a name is empty, the usual split."""
    train = choose_split(data, train_split, ("train2017", "train"))
    val = choose_split(data, val_split, ("val2017", "val"))
    catalog = read_split(data, train)
    names = [category.name for category in catalog.categories]
    return Data(train, val, len(catalog), len(read_split(data, val)), names)
