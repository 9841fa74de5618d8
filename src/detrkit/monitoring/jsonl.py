"""``log.jsonl``: one line of JSON per step and validation."""

import json
from pathlib import Path
from typing import Any

from accelerate import PartialState

from detrkit.errors import DetrkitError
from detrkit.training.events import Event, Finished, Interrupted, Skipped, Started, Stepped, Validated

_TAKEN_BACK = ("step", "skipped", "validation")
"""What a resumed run does again."""


class JsonLines:
    """Writes the log of a run; a resumed run continues it where its state was saved.

    A line has ``step`` and ``event``: ``step``, ``skipped``, ``validation``, ``interrupted``, ``finished`` or
    ``failed``.
    Lines after the step that a run resumes from are taken back, since the run does those steps again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        self._step: int | None = None

    def __call__(self, event: Event) -> None:
        """Write the event, in the main process alone."""
        if not PartialState().is_main_process:
            return
        self._step = event.step
        if isinstance(event, Started):
            self._take_back_after(event.step)
        else:
            self._write(as_line(event))

    def fail(self, error: DetrkitError) -> None:
        """Write what ended the run after the last step, if it had begun, in the main process alone."""
        if self._step is not None and PartialState().is_main_process:
            self._write({"event": "failed", "step": self._step, "error": str(error)})

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _take_back_after(self, step: int) -> None:
        lines = read_log(self.path) if self.path.exists() else []
        kept = [line for line in lines if line["step"] <= step and line["event"] in _TAKEN_BACK]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, as values, without one that a kill cut short."""
    lines = (_parse(text) for text in path.read_text("utf-8").splitlines())
    return [line for line in lines if line is not None]


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


def _parse(text: str) -> dict[str, Any] | None:
    """A line's values, or None where a kill cut it short."""
    try:
        return json.loads(text)
    except ValueError:
        return None
