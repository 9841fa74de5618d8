"""``run.json``: what was run, on what, and what it took."""

import json
import logging
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState

from detrkit.errors import DetrkitError
from detrkit.machine import describe_machine
from detrkit.monitoring.entries import Header
from detrkit.reading import read_json, writable
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated
from detrkit.training.refusals import Refusals
from detrkit.weights import store

logger = logging.getLogger(__name__)

_LIBRARIES = ("torch", "torchvision", "accelerate", "numpy", "hotcoco")


class RunHeader:
    """Writes the header of a run at its start, and at every validation and the end what it took so far.

    Its entries: ``detrkit`` (version), ``recipe`` (None where settings were given otherwise), ``command``,
    ``folder`` (where it was given), ``commit`` (of that folder, None where git knows none), ``data`` and
    ``init`` (absolute), ``splits`` (``train``, ``val``), ``images`` (of each), ``machine``, ``versions``,
    ``device``, ``processes``, ``steps``, ``images_per_step``, ``parameters``, ``trainable_parameters``,
    ``notes``, ``started`` (UTC), ``resumed`` (each time: ``step``, ``processes``, ``data``, ``images``,
    ``notes``, ``started``, ``command``, ``folder``, ``commit``, ``machine``), ``state`` (``running``,
    ``interrupted``, ``finished`` or ``failed``), ``ended``, ``seconds`` (of the wall's clock, over all
    resumptions, but for what a kill left untold) and ``peak_memory`` (bytes, None before the first step). A
    resumed run keeps all of its first start, if that can be read.
    """

    def __init__(
        self,
        out: Path,
        data: Path,
        init: Path | None = None,
        recipe: str | None = None,
        resume: bool = False,
    ) -> None:
        self._path = out / "run.json"
        self._resume = resume
        self._given = {
            "recipe": recipe,
            "data": str(data.resolve()),
            "init": None if init is None else str(init.resolve()),
        }
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._header: dict[str, Any] = {}
        self._seconds_before = 0.0
        self._refusals = Refusals(
            self._path, "Training goes on; it is written anew after the next validation and at the end."
        )

    def __call__(self, event: Event) -> None:
        """Bring the file up to date, in the main process alone."""
        if not PartialState().is_main_process:
            return
        match event:
            case Started():
                self._start(event)
            case Stepped():
                self._header["peak_memory"] = max(self._header["peak_memory"] or 0, event.memory)
            case Skipped():
                pass
            case Validated():
                self._write()
            case Interrupted():
                self._end("interrupted")
            case Finished():
                self._end("finished")

    def fail(self) -> None:
        """Note that an error ended the run, if it had begun, in the main process alone."""
        if self._header and PartialState().is_main_process:
            self._end("failed")

    def _start(self, event: Started) -> None:
        session = _session(self._started)
        self._header = self._before()
        if self._header:
            again = {
                "step": event.step,
                "processes": event.processes,
                "data": self._given["data"],
                "images": _images(event),
                "notes": event.notes,
                **session,
            }
            self._header["resumed"] = [*self._header["resumed"], again]
        else:
            self._header = _header(event, self._given, session)
        self._seconds_before = self._header["seconds"]
        self._header |= {"state": "running", "ended": None}
        self._write()

    def _before(self) -> dict[str, Any]:
        """What the file of a run that is resumed says; nothing, with a warning, where it is damaged."""
        if not (self._resume and self._path.exists()):
            return {}
        try:
            found = read_header(self._path)
            if "detrkit" in found:
                return found
            error = DetrkitError(f"{self._path} does not say what was run.")
        except DetrkitError as damage:
            error = damage
        logger.warning("%s It is written anew, and tells of the run from here on.", error)
        return {}

    def _end(self, state: str) -> None:
        self._header |= {"state": state, "ended": _written(datetime.now(UTC))}
        self._write()

    def _write(self) -> None:
        self._header["seconds"] = round(self._seconds_before + time.monotonic() - self._clock, 3)
        text = writable(json.dumps(self._header, indent=1, ensure_ascii=False)) + "\n"
        try:
            store.write_text(self._path, text)
        except OSError as error:
            self._refusals.tell(error)
        else:
            self._refusals.over()


def read_header(path: Path) -> dict[str, Any]:
    """The entries of a ``run.json``; DetrkitError where it cannot be read, or one is not what it should be.

    What a run takes is there in any case, as at its start where it is not said.
    """
    try:
        value = read_json(path, Header)
    except (OSError, ValueError) as error:
        raise DetrkitError(f"{path} cannot be read ({error}): restore it from a copy.") from None
    return {"resumed": [], "seconds": 0.0, "peak_memory": None} | value


def _header(event: Started, given: dict[str, Any], session: dict[str, Any]) -> dict[str, Any]:
    data, length = event.experiment.data, event.length
    return {
        "detrkit": version("detrkit"),
        **given,
        **session,
        "splits": {"train": data.train_split, "val": data.val_split},
        "images": _images(event),
        "versions": {name: version(name) for name in _LIBRARIES},
        "device": event.device,
        "processes": event.processes,
        "steps": length.steps,
        "images_per_step": length.images_per_step,
        "parameters": event.parameters,
        "trainable_parameters": event.trainable_parameters,
        "notes": event.notes,
        "resumed": [],
        "seconds": 0.0,
        "peak_memory": None,
    }


def _images(event: Started) -> dict[str, int]:
    return {"train": event.length.num_images, "val": event.val_images}


def without_passwords(command: str) -> str:
    """The command with ``***`` in place of the passwords of URLs, since it is noted for all to read."""
    return re.sub(r"(://[^\s/:@]*):[^\s/]*@", r"\1:***@", command)


def _session(started: datetime) -> dict[str, Any]:
    """What can differ each time that a run is started or resumed."""
    program, *arguments = sys.argv
    return {
        "command": without_passwords(shlex.join([Path(program).name, *arguments])),
        "folder": str(Path.cwd()),
        "commit": _commit(),
        "machine": describe_machine(),
        "started": _written(started),
    }


def _commit() -> str | None:
    """The git commit of the working folder; None where it is no repository, or git is not there."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
