"""Carries out jobs, each in processes that train together: ``python forked_ranks.py JOBS.json``.

They are forked from this process, which has imported what they need and keeps their store, as torchrun does.
A job has ``world``, the ``arguments`` of the ``detrkit`` command, and ``told``, the path at which processes
leave what they printed (``.RANK.txt``) and the images that they validated (``.RANK.json``); ``.json`` has all
exit codes, and the seconds between the first end of a process and the last. Where a job has ``stop_after``,
process 0 is asked to stop in that step; where it has ``stop_validating``, that process is asked amid a
validation, and with ``stop_keeping`` after it. Where it has ``fault``, process ``at`` fails in its second
step, or with ``hang`` is asked to stop while it waits for an image that never comes. No page is written,
which would take most of the time.
"""

import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

import detrkit.training.fit as loop
import detrkit.training.validate as validation
from detrkit.cli.main import app
from detrkit.data.dataset import SplitDataset
from detrkit.errors import DetrkitError
from detrkit.objective.criterion import Criterion
from detrkit.report.live import LivePage
from detrkit.structures import LossReport
from detrkit.training.saving import Saver

SECONDS = 300


def carry_out(job: dict[str, Any]) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = {fork(job, rank, store.port): rank for rank in range(job["world"])}
    codes: dict[int, int] = {}
    ends: list[float] = []
    while len(codes) < job["world"]:
        pid, status = os.wait()
        ends.append(time.monotonic())
        codes[children[pid]] = os.waitstatus_to_exitcode(status)
    ended = {"codes": [codes[rank] for rank in range(job["world"])], "seconds": ends[-1] - ends[0]}
    Path(f"{job['told']}.json").write_text(json.dumps(ended))


def fork(job: dict[str, Any], rank: int, port: int) -> int:
    """Start a process of the job; it ends by itself if it hangs."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(SECONDS)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(job["world"])}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    told = f"{job['told']}.{rank}"
    printed = os.open(f"{told}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    LivePage.__call__ = lambda self, event: None
    seen = note_what_is_validated(stop=job.get("stop_validating") == rank)
    if job.get("at") == rank:
        plant(job["fault"])
    if job.get("stop_keeping") == rank:
        ask_while_the_best_is_kept()
    if rank == 0 and "stop_after" in job:
        before_step(job["stop_after"], ask_to_stop, signal.SIGTERM)
    code = run(job["arguments"])
    Path(f"{told}.json").write_text(json.dumps(seen))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    try:
        app(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:  # noqa: BLE001  # as the interpreter would end
        traceback.print_exc()
        return 1
    return 0


def note_what_is_validated(stop: bool) -> list[int]:
    """The ids of the images that this process has detected in; ``stop`` asks it to stop at the first."""
    seen: list[int] = []
    original = validation.detect_split

    def noted(*args: Any, **settings: Any) -> Iterator[tuple[int, Any]]:
        for image_id, found in original(*args, **settings):
            seen.append(image_id)
            if stop and len(seen) == 1:
                ask_to_stop(signal.SIGTERM)
            yield image_id, found

    validation.detect_split = noted
    return seen


def before_step(number: int, act: Callable[[Any], None], argument: Any) -> None:
    original, steps = loop.take_step, iter(range(1, 1_000))

    def taken(*args: Any, **settings: Any) -> Any:
        if next(steps) == number:
            act(argument)
        return original(*args, **settings)

    loop.take_step = taken


def ask_while_the_best_is_kept() -> None:
    original = Saver.keep

    def keep(*given: Any) -> None:
        original(*given)
        ask_to_stop(signal.SIGTERM)

    Saver.keep = keep


def ask_to_stop(number: int) -> None:
    """As a job scheduler does, and the launcher that it asks too."""
    for _ in range(2):
        os.kill(os.getpid(), number)


def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


def plant(fault: str) -> None:
    match fault:
        case "raise":
            before_step(2, fail, DetrkitError("images/7.png is damaged: replace it."))
        case "break":
            before_step(2, fail, IndexError("index 9 is out of range"))
        case "diverge":
            before_step(2, lose_the_loss, Criterion.__call__)
        case "kill":
            before_step(2, signal_self, signal.SIGKILL)
        case "hang":
            before_step(1, lose_the_images, SplitDataset.__getitem__)


def lose_the_images(original: Callable[..., Any]) -> None:
    def hang(*given: Any) -> None:
        ask_to_stop(signal.SIGTERM)
        time.sleep(SECONDS)

    SplitDataset.__getitem__ = hang


def lose_the_loss(original: Callable[..., LossReport]) -> None:
    def lost(*given: Any) -> LossReport:
        report = original(*given)
        return report._replace(total=report.total * math.nan)

    Criterion.__call__ = lost


def fail(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in json.loads(Path(sys.argv[1]).read_text()):
        carry_out(one)
