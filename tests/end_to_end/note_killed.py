"""Carries a note out twice from one plan file: left alone, and killed (SIGKILL) in the middle of steps.

Run as ``python note_killed.py PLAN DATA ALONE KILLED``. Everything is imported once, and each process that
carries the note out, or a part of it, is a fork. Prints how each of them ended, as json.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detrkit.study.note.events import Judging
from detrkit.study.note.note import carry_out, repeat_plan
from detrkit.study.note.plan import read_plan
from detrkit.study.note.writing import write_note
from detrkit.training.events import Started, Stepped

Killer = Callable[[Any], None]


def at_step(folder: str, step: int) -> Killer:
    """Kills this process after a step of the run in that folder."""
    running = ""

    def hear(event: Any) -> None:
        nonlocal running
        if isinstance(event, Started):
            running = "/".join(event.out.parts[-2:])
        if isinstance(event, Stepped) and running == folder and event.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return hear


def at_judging(name: str) -> Killer:
    """Kills this process when a run is about to be evaluated."""

    def hear(event: Any) -> None:
        if event == Judging(name):
            os.kill(os.getpid(), signal.SIGKILL)

    return hear


def carried_out(plan: Path, data: Path, out: Path, killer: Killer) -> int:
    """How a process ended that carried the note out in ``out``: 0, or the signal by which it was killed."""
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            write_note(carry_out(repeat_plan(read_plan(plan), out), data, out, killer))
            failed = 0
        finally:
            if failed:
                traceback.print_exc()
            os._exit(failed)
    return os.waitpid(child, 0)[1]


def main(plan: Path, data: Path, alone: Path, killed: Path) -> None:
    kills = {
        "training": at_step("runs/r18", 3),
        "transfer": at_step("runs/r34_from_r18", 3),
        "tuning": at_step("trials/0001", 1),
        "evaluation": at_judging("r34"),
    }
    ends = {"alone": carried_out(plan, data, alone, lambda _: None)}
    for name, killer in kills.items():
        ends[name] = carried_out(plan, data, killed, killer)
    ends["end"] = carried_out(plan, data, killed, lambda _: None)
    sys.stdout.write(json.dumps(ends))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
