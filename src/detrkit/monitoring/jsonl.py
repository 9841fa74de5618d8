"""``log.jsonl``: one line of JSON per step and validation."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState

from detrkit.errors import DetrkitError
from detrkit.files import require_regular
from detrkit.monitoring.lines import parse_line, read_lines
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated
from detrkit.training.refusals import Refusals, reason

logger = logging.getLogger(__name__)

_RESERVE = 19
"""After a write that the disk refused, so much longer goes into the run before the next."""

_LASTING = ("step", "skipped", "validation")
"""What a resumed run has behind it, up to the step that it resumes from."""


class JsonLines:
    """Writes the log of a run; a resumed run continues it where its state was saved.

    A line has ``step`` and ``event``: ``step``, ``skipped``, ``validation``, ``interrupted``, ``finished`` or
    ``failed``. Lines after the step that a run resumes from are taken back, since the run does those steps
    again. Lines that the disk refuses wait and are written, in order, before the next. They are tried again
    so seldom that it takes a twentieth of the time at most, and at the end.

    Raises:
        DetrkitError: the log cannot be written at the start of the run, or lines still wait at its end.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / "log.jsonl"
        self._clock = clock
        self._next_try = 0.0
        self._step: int | None = None
        self._size = 0
        """Bytes of the file that are whole lines; a write that failed may have left more."""
        self._waiting: list[bytes] = []
        self._refusals = Refusals(
            self.path, "Training goes on; the lines are kept and written as soon as that is possible."
        )

    def __call__(self, event: Event) -> None:
        """Write the event, in the main process alone."""
        if not PartialState().is_main_process:
            return
        self._step = event.step
        if isinstance(event, Started):
            self._take_back(event)
            return
        ends = isinstance(event, Finished | Interrupted)
        self._write(as_line(event), now=ends)
        if ends:
            self._require_written()

    def fail(self, error: DetrkitError) -> None:
        """Write what ended the run after the last step, if it had begun, in the main process alone."""
        if self._step is not None and PartialState().is_main_process:
            self._write({"event": "failed", "step": self._step, "error": str(error)}, now=True)

    def _write(self, line: dict[str, Any], now: bool) -> None:
        self._waiting.append(_encoded(line))
        begun = self._clock()
        if begun < self._next_try and not now:
            return
        try:
            self._size = _append(self.path, self._size, b"".join(self._waiting))
        except OSError as error:
            ended = self._clock()
            self._next_try = ended + _RESERVE * (ended - begun)
            self._refusals.tell(error)
            return
        self._waiting = []
        self._refusals.over()

    def _require_written(self) -> None:
        if self._waiting:
            raise DetrkitError(
                f"{self.path} lacks its last {len(self._waiting)} lines, which could not be written. The "
                "state is saved, and --resume goes on from it; of these steps the log will not tell."
            )

    def _take_back(self, event: Started) -> None:
        """Cut the log after the last line that still holds."""
        try:
            if there := self.path.exists():
                require_regular(self.path)
            lines = self.path.read_bytes().splitlines(keepends=True) if there else []
            values = [_parse(line) for line in lines]
            kept = [number for number, value in enumerate(values, start=1) if _holds(value, event)]
            self._size = sum(map(len, lines[: max(kept, default=0)]))
            _append(self.path, self._size, b"")
        except OSError as error:
            raise DetrkitError(
                f"{self.path} cannot be written ({reason(error)}): make room, or choose another --out."
            ) from None
        self._warn_of_gaps([values[number - 1] for number in kept], event.step)

    def _warn_of_gaps(self, kept: list[Any], step: int) -> None:
        there = {line["step"] for line in kept if "step" in (line["event"], line.get("what"))}
        lacking = [number for number in range(1, step + 1) if number not in there]
        if lacking:
            logger.warning(
                "%s lacks %d of the %d steps that are done, first step %d: the disk refused them, "
                "or the file was changed.",
                self.path,
                len(lacking),
                step,
                lacking[0],
            )


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, as values, without those that are no events, as one that a kill cut short.

    Raises:
        OSError: the log is not there, or is no file.
    """
    return read_lines(path).lines


def as_line(event: Stepped | Skipped | Validated | Interrupted | Finished) -> dict[str, Any]:
    """The event as plain values."""
    match event:
        case Stepped():
            speed = {"images_per_second": event.images_per_second, "data_share": event.data_share}
            return {"event": "step", **event._asdict(), **speed}
        case Skipped():
            return {"event": "skipped", **event._asdict()}
        case Validated():
            raw = None if event.raw is None else event.raw.to_dict()
            return {"event": "validation", **event._asdict(), "metrics": event.metrics.to_dict(), "raw": raw}
        case Interrupted():
            return {"event": "interrupted", **event._asdict(), "out": str(event.out)}
        case Finished():
            return {"event": "finished", **event._asdict(), "out": str(event.out)}


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _append(path: Path, size: int, text: bytes) -> int:
    """Write behind the first ``size`` bytes of a file, in place of what is there; its size afterwards.

    Of a file that is shorter, or has vanished, all that is there stays.
    """
    with path.open("ab") as file:
        file.truncate(min(size, file.tell()))
        file.seek(0, 2)
        file.write(text)
        file.flush()
        return file.tell()


def _holds(line: dict[str, Any] | None, event: Started) -> bool:
    """Whether the line tells of what the run will not do again."""
    if line is None or line["step"] > event.step:
        return False
    again = line["event"] == "validation" and line["step"] == event.step and event.validation_due
    return line["event"] in _LASTING and not again


def _parse(text: bytes) -> dict[str, Any] | None:
    """A line's values, or None where a kill cut it short and for what is no event."""
    try:
        return parse_line(text)
    except ValueError:
        return None
