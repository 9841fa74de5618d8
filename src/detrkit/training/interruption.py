"""Asking a run to stop: SIGTERM, Ctrl-C, and the signals by which clusters announce the end of a job."""

import signal
import threading
import time
from collections.abc import Callable
from signal import Signals
from types import FrameType, TracebackType
from typing import Any

import torch

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]

ECHO = 2.0
"""Seconds in which a second signal is taken for the first one again: a launcher passes on what a terminal or
a scheduler has sent to all processes."""


class Stopped(Exception):  # noqa: N818 nothing is wrong
    """Some process of the run was asked to stop."""


class Interruption:
    """While entered, the first signal is noted in ``signal``; one after ``ECHO`` seconds acts as always."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.signal: Signals | None = None
        self._clock = clock
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    def __enter__(self) -> "Interruption":
        # Python delivers signals to the main thread only, and only it may ask for them.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if self.signal is None:
            self.signal, self._since = Signals(number), now
        elif now - self._since > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def asked_anywhere(asked: bool) -> bool:
    """Whether any process of the run was asked to stop; all of them call this."""
    shared = torch.tensor(float(asked))
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(shared)
    return shared.item() > 0
