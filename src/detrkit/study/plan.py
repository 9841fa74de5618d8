"""``plan.json``: what a study does, in steps. It is made once, so that a resumed study does the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.study.agreement import differences, shown
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
    tree = _read_json(path)
    for name, before, now in differences(tree["asked"], request.as_dict()):
        raise DetrkitError(
            f"{path.parent} holds a study with {name} = {shown(before)}, not {shown(now)}: go on with what "
            "it has, or choose another --out."
        )
    return Plan(
        request=request._replace(command=tree["command"]),
        machine=tree["machine"],
        paces={name: Pace(**pace) for name, pace in tree["pace"].items()},
        steps={name: Steps(**steps) for name, steps in tree["steps"].items()},
    )


def _steps(pace: float, budget: float, longer: float | None) -> Steps:
    full = _within(budget, pace)
    return Steps(max(1, full // _SWEEP), full, None if longer is None else _within(longer, pace))


def _within(seconds: float, pace: float) -> int:
    """How many steps fit, at least one."""
    return max(1, int(seconds / pace))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        tree = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DetrkitError(f"{path} is damaged ({error}): choose another --out.") from None
    if not isinstance(tree, dict) or tree.get("version") != _VERSION:
        raise DetrkitError(f"{path} is not a study's plan of version {_VERSION}: choose another --out.")
    return tree
