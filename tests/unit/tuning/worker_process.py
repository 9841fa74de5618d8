"""A worker in a process of its own: ``python worker_process.py URL TRIALS LOG``.

A trial takes some tenths of a second, and what it does stands in LOG as it happens: ``begin 3``, ``end 3``.
"""

import math
import sys
import time
from pathlib import Path

from detrkit.tuning.attempt import Attempt
from detrkit.tuning.joining import join_or_begin, open_storage
from detrkit.tuning.plan import Plan
from detrkit.tuning.space import read_searches
from detrkit.tuning.worker import Work, run_study


def main(url: str, trials: int, log: Path) -> None:
    def carry_out(attempt: Attempt) -> None:
        note(f"begin {attempt.number}")
        rate = math.log10(attempt.settings["optim.lr"]) + 3
        for part in range(1, 10):
            time.sleep(0.2 if part == 1 else 0.02)
            attempt.report(part, 0.8 * math.exp(-(rate**2)) * part / 9, 1.0)
        note(f"end {attempt.number}")

    def note(line: str) -> None:
        with log.open("a") as opened:
            opened.write(f"{line}\n")

    storage = open_storage(url, heartbeat=1, grace=2)
    study, plan = join_or_begin(storage, "study", {}, lambda: Plan(9, None, 10))
    searches = read_searches(["optim.lr=1e-6:1e-1"], ["optim.backbone_lr", "optim.weight_decay"])
    run_study(Work(study, plan, searches, trials, 0, {"optim.lr": 1e-6}, carry_out), lambda event: None)
    note("done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
