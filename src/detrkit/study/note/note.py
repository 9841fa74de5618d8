"""The note from its plan to its report, going on wherever it was stopped."""

from pathlib import Path

from accelerate import PartialState

from detrkit.errors import DetrkitError
from detrkit.machine import describe_machine
from detrkit.study.note.events import Began, Listener, Planned
from detrkit.study.note.plan import (
    Plan,
    read_plan,
    require_asked,
    require_same_data,
    require_same_runs,
    write_plan,
)
from detrkit.study.note.planning import data_of, make_plan
from detrkit.study.note.request import Request
from detrkit.study.note.steps import STEPS, done
from detrkit.study.note.work import Work
from detrkit.study.same_machine import require_same_pace


def plan_note(request: Request, out: Path, listener: Listener) -> Plan:
    """The plan in ``out`` for this request; where there is none, it is made by measuring.

    Raises:
        DetrkitError: where ``out`` holds something else, or the request cannot be fulfilled.
        KeyboardInterrupt: when asked to stop.
    """
    _require_one_process()
    path = out / "plan.json"
    if path.exists():
        plan = read_plan(path)
        require_asked(plan, request.asked(), out)
        return plan
    _require_empty(out)
    splits = (str(request.overrides.get(f"data.{name}", "")) for name in ("train_split", "val_split"))
    plan = make_plan(request, data_of(request.data, *splits), listener)
    write_plan(path, plan)
    return plan


def repeat_plan(given: Plan, out: Path) -> Plan:
    """The plan of another note, to be carried out in ``out`` on this machine."""
    _require_one_process()
    path = out / "plan.json"
    if path.exists():
        plan = read_plan(path)
        require_same_runs(plan, given, out)
        return plan
    _require_empty(out)
    plan = given._replace(machine=describe_machine())
    write_plan(path, plan)
    return plan


def carry_out(plan: Plan, data: Path, out: Path, listener: Listener) -> Work:
    """Do whatever of the plan is not done yet.

    Raises:
        DetrkitError: where the data is another than the planned one, or a step meets a fault.
        KeyboardInterrupt: when asked to stop; what was done is kept.
    """
    require_same_data(plan, data_of(data, plan.data.train_split, plan.data.val_split), str(data))
    work = Work(plan, data, out, listener)
    listener(Planned(plan, done(work)))
    for number, step in enumerate(STEPS, start=1):
        if work.result(step.name) is None:
            require_same_pace(plan.machine)
            listener(Began(number, len(STEPS), step.title))
            work.keep(step.name, step.carry_out(work))
    return work


def _require_empty(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # a hidden file is what a kill left of a plan in the making
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise DetrkitError(f"{out} is not empty and holds no study: choose another --out.")


def _require_one_process() -> None:
    processes = PartialState().num_processes
    if processes > 1:
        raise DetrkitError(f"a study was started in {processes} processes: start it without a launcher.")
