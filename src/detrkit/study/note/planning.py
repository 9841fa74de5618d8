"""The plan of a note: made by measuring, or by the recipes' own lengths."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from detrkit.benchmark.results import Effort
from detrkit.data.formats.recognise import choose_split, read_split
from detrkit.machine import describe_machine
from detrkit.settings.experiment import Experiment
from detrkit.settings.training import parse_duration
from detrkit.study.events import Measuring
from detrkit.study.note.family import Member, members_of, warmed_up
from detrkit.study.note.pace import measure_pace
from detrkit.study.note.plan import Data, Plan, Run
from detrkit.study.note.request import Request
from detrkit.study.note.shares import (
    JUDGING,
    TUNING,
    Amount,
    Trials,
    amounts_within,
    full_amount,
    full_trials,
    trials_within,
)
from detrkit.tuning.pace import Pace

_EFFORT = Effort(turns=5, batches=(1, 8))
"""Less than the benchmark's own, since there are many detectors; the plan file can be given more."""


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
        paces = measure_all(members, request.data, data.val_split, listener)
        left = parse_duration(request.budget) - (monotonic() - begun)
        amounts, trials = within(left, members, paces, data)
    runs = {
        name: Run(members[name].role, amount, warmed_up(members[name], amount.steps))
        for name, amount in amounts.items()
    }
    return Plan(
        asked=request.asked(),
        command=request.command,
        data=data,
        machine=describe_machine(),
        paces={name: pace._asdict() for name, pace in paces.items()},
        trials=trials,
        effort=_EFFORT,
        runs=runs,
    )


def within(
    seconds: float, members: Mapping[str, Member], paces: Mapping[str, Pace], data: Data
) -> tuple[dict[str, Amount], Trials]:
    """How long every run is, and the trials, in so many seconds.

    Where there is no room for trials, there is no run with tuned settings, and the others have its time.
    """
    base = next(name for name, member in members.items() if member.role == "smaller")
    amounts = amounts_within(seconds, paces, len(members) + TUNING + JUDGING)
    trials = trials_within(
        TUNING * (amounts[base].seconds or 0.0),
        amounts[base].steps,
        paces[base],
        data.val_images,
        data.train_images,
    )
    if trials.number:
        return amounts, trials
    untuned = {name: paces[name] for name, member in members.items() if member.role != "tuned"}
    return amounts_within(seconds, untuned, len(untuned) + JUDGING), trials


def measure_all(
    members: Mapping[str, Member], data: Path, val_split: str, listener: Callable[[Measuring], None]
) -> dict[str, Pace]:
    """The pace of every member; those with the same settings are measured once."""
    paces: dict[str, Pace] = {}
    known: list[tuple[Experiment, Pace]] = []
    for name, member in members.items():
        pace = next((pace for settings, pace in known if settings == member.settings), None)
        if pace is None:
            listener(Measuring(name))
            pace = measure_pace(member.settings, data, val_split)
            known.append((member.settings, pace))
        paces[name] = pace
    return paces


def data_of(data: Path, train_split: str = "", val_split: str = "") -> Data:
    """What the splits of a dataset hold; where a name is empty, the usual split."""
    train = choose_split(data, train_split, ("train2017", "train"))
    val = choose_split(data, val_split, ("val2017", "val"))
    trained, judged = read_split(data, train), read_split(data, val)
    names = [category.name for category in trained.categories]
    return Data(train, val, len(trained), len(judged), names, trained.digest(), judged.digest())
