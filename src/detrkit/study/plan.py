"""``plan.json``: what a study does, in steps. It is made once, so that a resumed study does the same."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import Meta

from detrkit.errors import DetrkitError
from detrkit.reading import Positive, read_json
from detrkit.study.agreement import differences, told
from detrkit.study.pace import Pace
from detrkit.study.request import Request

_VERSION = 1
_SWEEP = 5
"""A run of the sweep has this part of the steps of the full run."""


class Steps(NamedTuple):
    """The steps of a recipe's runs: each of the sweep, the full one, and the longer one if there is any."""

    sweep: int
    full: int
    longer: int | None


class _Pace(TypedDict):
    seconds: Annotated[float, Meta(gt=0, le=1e9)]
    images_per_step: Positive
    train_images: Positive
    val_images: Positive


class _Steps(TypedDict):
    sweep: Positive
    full: Positive
    longer: Positive | None


class _File(TypedDict):
    """What the file has."""

    version: Literal[1]
    plan: Literal["convergence"]
    command: str
    machine: dict[str, str]
    pace: dict[str, _Pace]
    steps: dict[str, _Steps]
    asked: dict[str, Any]


class Plan(NamedTuple):
    """What is asked, what was measured for it, and the steps that follow from both."""

    request: Request
    machine: dict[str, str]
    paces: dict[str, Pace]
    steps: dict[str, Steps]

    @property
    def images(self) -> Pace:
        """What a step and the dataset hold, which is the same for all recipes."""
        return next(iter(self.paces.values()))


def make_plan(request: Request, machine: dict[str, str], paces: dict[str, Pace]) -> Plan:
    """The plan that these times lead to."""
    steps = {
        name: _steps(paces[name].seconds, request.budget, request.longer.get(name))
        for name in request.recipes
    }
    return Plan(request, machine, paces, steps)


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan in one rename, so that there is all of it or none."""
    tree = {
        "version": _VERSION,
        "plan": "convergence",
        "command": plan.request.command,
        "machine": plan.machine,
        "pace": {name: pace._asdict() for name, pace in plan.paces.items()},
        "steps": {name: steps._asdict() for name, steps in plan.steps.items()},
        "asked": plan.request.as_dict(),
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(tree, indent=1) + "\n", "utf-8")
    temporary.replace(path)


def read_plan(path: Path, request: Request) -> Plan:
    """The plan that was made for the same request.

    Raises:
        DetrkitError: naming what differs, where it was another, or what is wrong with the file.
    """
    tree = _read(path)
    for name, before, now in differences(tree["asked"], request.as_dict()):
        raise DetrkitError(
            f"{path.parent} holds a study with {name} = {told(before)}, not {told(now)}: go on with what "
            "it has, or choose another --out."
        )
    for part in ("pace", "steps"):
        if tree[part].keys() != request.recipes.keys():
            raise DetrkitError(f"{path} has the {part} of other recipes than were asked for: restore it.")
    return Plan(
        request=request._replace(command=tree["command"]),
        machine=tree["machine"],
        paces={name: Pace(**msgspec.convert(pace, _Pace)) for name, pace in tree["pace"].items()},
        steps={name: Steps(**msgspec.convert(steps, _Steps)) for name, steps in tree["steps"].items()},
    )


def _steps(pace: float, budget: float, longer: float | None) -> Steps:
    full = _within(budget, pace)
    return Steps(max(1, full // _SWEEP), full, None if longer is None else _within(longer, pace))


def _within(seconds: float, pace: float) -> int:
    """How many steps fit, at least one."""
    return max(1, int(seconds / pace))


def _read(path: Path) -> _File:
    try:
        return read_json(path, _File)
    except (OSError, ValueError) as error:
        raise DetrkitError(
            f"{path} is not a study's plan of version {_VERSION} ({error}): choose another --out."
        ) from None
