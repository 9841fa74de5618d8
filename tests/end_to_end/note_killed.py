"""Carries a note out twice from one plan file: left alone, and killed (SIGKILL) in the middle of steps.

Run as ``python note_killed.py PLAN DATA ALONE KILLED MOMENT..``. Everything is imported once, and each
process that carries the note out, or a part of it, is a fork. Prints how each of them ended, as json.
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


def killer_at(moment: str) -> Killer:
    """Kills this process after a step of a run (``runs/r18@3``), or before one is judged (``r18``)."""
    place, _, step = moment.partition("@")
    running = ""

    def hear(event: Any) -> None:
        nonlocal running
        if isinstance(event, Started):
            running = "/".join(event.out.parts[-2:])
        stepped = isinstance(event, Stepped) and running == place and event.step == int(step)
        if stepped or event == Judging(place):
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


def main(plan: Path, data: Path, alone: Path, killed: Path, moments: list[str]) -> None:
    ends = {"alone": carried_out(plan, data, alone, lambda _: None)}
    for moment in moments:
        ends[moment] = carried_out(plan, data, killed, killer_at(moment))
    ends["end"] = carried_out(plan, data, killed, lambda _: None)
    sys.stdout.write(json.dumps(ends))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]), sys.argv[5:])
