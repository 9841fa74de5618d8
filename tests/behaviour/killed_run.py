"""Trains runs in many processes, each of which is killed, or asked to stop, at a moment of its own.

Run as ``python killed_run.py CASE``. The json file says ``data``, ``settings`` and ``runs``: for each run
folder the moments, [signal, point, count], of the processes that train in it one after the other. A process
that is asked to stop runs ``command``, words of a command; all others run the loop. Everything is imported
once, and each process is a fork, which prints into ``FOLDER-NUMBER.txt``.

Prints, as json and by folder, for each moment how the process ended, the step of the state on disk, whose
files were read as a run that resumes reads them, and the seconds from the signal to its end.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

from detrkit.cli.main import main as command
from detrkit.monitoring import jsonl
from detrkit.monitoring.recorded import fit
from detrkit.settings.experiment import recipe
from detrkit.training import averaging, prepare, saving, step, validate
from detrkit.training.events import Event, Stepped
from detrkit.weights import store

Act = Callable[..., Any]


def half_a_file(original: Act, tensors: dict[str, Any], path: Path, metadata: dict[str, str]) -> None:
    content = safetensors.torch.save(tensors, metadata)
    path.write_bytes(content[: len(content) // 2])


def half_a_text(original: Act, path: Path, text: str, encoding: str) -> None:
    original(path, text[: len(text) // 2], encoding)


def half_a_line(original: Act, path: Path, size: int, text: bytes) -> None:
    original(path, size, text[: len(text) // 2])


def whole(original: Act, *arguments: Any, **named: Any) -> None:
    original(*arguments, **named)


def nothing(original: Act, *arguments: Any, **named: Any) -> None:
    pass


POINTS: dict[str, tuple[Any, str, Act]] = {
    "building": (prepare, "build_detector", nothing),
    "before the update": (step, "clip_gradients", nothing),
    "after the update": (averaging.Average, "update", nothing),
    "half the tensors": (store, "save_file", half_a_file),
    "half the json": (Path, "write_text", half_a_text),
    "before a flush": (os, "fsync", nothing),
    "before a rename": (os, "replace", nothing),
    "after a rename": (os, "replace", whole),
    "before a removal": (os, "unlink", nothing),
    "half a line": (jsonl, "_append", half_a_line),
    "after a line": (jsonl, "_append", whole),
    "amid detection": (validate, "to_results", nothing),
    "before the figures": (validate, "evaluate_results", nothing),
    "between the best weights and their figures": (saving, "write_validation", nothing),
}
"""Functions, by owner and name, and which part of a call a process still does before it is killed."""


def signal_at(number: int, point: str, count: int, note: Path) -> None:
    """Signal this process and its children at the ``count``-th call of a function, and note when it was."""
    owner, name, part = POINTS[point]
    original, calls = getattr(owner, name), itertools.count(1)

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) != count:
            return original(*arguments, **named)
        if number == signal.SIGKILL:
            part(original, *arguments, **named)
        note.write_bytes(str(time.monotonic()).encode())
        # from elsewhere, since workers heed what their parent sends them
        kill = ["kill", f"-{number}", "--", f"-{os.getpgrp()}"]
        subprocess.run(kill, check=True, start_new_session=True)
        return original(*arguments, **named)

    setattr(owner, name, call)


def killer_after(steps: int, share: float) -> Callable[[Event], None]:
    """Kills this process a moment after some steps: by the clock, wherever it is then."""
    taken = itertools.count(1)

    def hear(event: Event) -> None:
        if isinstance(event, Stepped) and next(taken) == steps:
            threading.Timer(share * event.seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    return hear


def train(case: dict[str, Any], out: Path, moment: list[Any], note: Path) -> None:
    """Train, from wherever the run is, until the moment."""
    number, point, count = moment
    listeners = []
    if point == "by the clock":
        listeners = [killer_after(*count)]
    elif point in POINTS:
        signal_at(number, point, count, note)
    if number not in (0, signal.SIGKILL):
        words = [*case["command"], "--out", str(out)]
        sys.argv = ["detrkit", *words, *(["--resume"] if out.exists() else [])]
        try:
            command()
        finally:
            for again in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), again)  # as schedulers and launchers do, while the process ends
    experiment = recipe("detr_r50", case["settings"])
    for _ in fit(experiment, case["data"], out, resume=out.exists(), listeners=listeners):
        pass


def in_a_fork(act: Callable[[], None], said: Path) -> int:
    """How a process ended that did this: its exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            for stream in (1, 2):
                os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            act()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:  # noqa: BLE001 a fork must not go on with what its parent does
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def saved_step(out: Path) -> int | None:
    """The step of the state on disk, of which every file must be whole; None where none was saved yet."""
    if (out / "model.safetensors").exists():
        store.read(out / "model.safetensors")
    path = out / "last" / "state.json"
    if not path.exists():
        return None
    state = json.loads(path.read_text("utf-8"))
    _, metadata = store.read_tensors(path.with_name(state["tensors"]))
    assert metadata["step"] == str(state["progress"]["step"])
    return state["progress"]["step"]


def carried_out(case: dict[str, Any], out: Path, moment: list[Any], said: Path) -> list[Any]:
    note = out.with_name("signalled")
    note.unlink(missing_ok=True)
    ended = in_a_fork(lambda: train(case, out, moment, note), said)
    seconds = time.monotonic() - float(note.read_text()) if note.exists() else None
    return [ended, saved_step(out), seconds]


def main(case: dict[str, Any]) -> None:
    ends = {
        out: [
            carried_out(case, Path(out), moment, Path(f"{out}-{number}.txt"))
            for number, moment in enumerate(moments)
        ]
        for out, moments in case["runs"].items()
    }
    sys.stdout.write(json.dumps(ends))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
