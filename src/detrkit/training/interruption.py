"""Asking a run to stop: SIGTERM, Ctrl-C, and the signals by which clusters announce the end of a job."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from signal import Signals
from types import FrameType, TracebackType
from typing import Any

import torch

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]

ECHO = 2.0
"""Seconds in which a second Ctrl-C is taken for the first one again: a launcher passes on what a terminal has
sent to all processes."""

PATIENCE = 1.0
"""Seconds that a wait may last after the first signal: one cut short leaves workers amid their words."""


class Stopped(BaseException):
    """Some process of the run was asked to stop. Nothing is wrong, so no handler of errors may take it."""


class Interruption:
    """While entered, the first signal is noted in ``signal``, and those after it change nothing: a scheduler
    mostly sends several. Ctrl-C alone, ``ECHO`` seconds after the first signal, acts as always.

    ``tells`` has the first signal answered on stderr.
    """

    def __init__(self, tells: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.signal: Signals | None = None
        self._tells = tells
        self._clock = clock
        self._since = 0.0
        self._entered = False
        self._waits = False
        self._repeating = threading.Lock()
        self._process = os.getpid()
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop."""
        return self.signal is not None

    @contextmanager
    def ending_waits(self) -> Iterator[None]:
        """While entered, a signal raises Stopped ``PATIENCE`` seconds later, and one before at once.

        It is for waits that may never end, as of data on a server that is away, and for work whose result a
        run that stops does not need.
        """
        if self.requested:
            raise Stopped
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            with self._repeating:  # from here on the signal is not repeated: it would end what comes later
                pass

    def __enter__(self) -> "Interruption":
        # Python delivers signals to the main thread only, and only it may ask for them.
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._entered = True
            self._previous = {number: signal.signal(number, self._request) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._request:
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker of this process that has just begun, and comes to heed its parent
        now = self._clock()
        if not self._entered:
            self._act_as_before(number, frame)
        elif self.signal is None:
            self.signal, self._since = Signals(number), now
            if self._tells:
                _answer(self.signal)
            if self._waits:
                self._repeat_later(self.signal)
        elif self._waits and now - self._since >= PATIENCE:
            raise Stopped
        elif number == signal.SIGINT and now - self._since > ECHO:
            self._act_as_before(number, frame)

    def _act_as_before(self, number: int, frame: FrameType | None) -> None:
        before = self._previous[Signals(number)]
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            signal.raise_signal(number)

    def _repeat_later(self, asked: Signals) -> None:
        """Send this thread the signal again when patience is over, if it still waits then."""
        thread = threading.get_ident()

        def repeat() -> None:
            with self._repeating:
                if not self._waits:
                    return
                if sys.platform == "win32":
                    signal.raise_signal(asked)
                else:  # to the thread that waits, whose system call ends with it
                    signal.pthread_kill(thread, asked)

        timer = threading.Timer(1.1 * PATIENCE, repeat)
        timer.daemon = True
        timer.start()


def ignore_signals() -> None:
    """Have this process end as it will, whatever it is sent from here on. What it has to save is saved."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _answer(asked: Signals) -> None:
    """Say that it was heard. Amid whatever a signal interrupts, no stream of Python's may be written to."""
    begin = "\n" if os.isatty(2) else ""  # below the progress bar
    said = f"{asked.name}: the run saves and ends soon; Ctrl-C would end it at once, unsaved"
    with suppress(OSError):
        os.write(2, f"{begin}{said}.\n".encode())


def asked_anywhere(asked: bool) -> bool:
    """Whether any process of the run was asked to stop; all of them call this."""
    shared = torch.tensor(float(asked))
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(shared)
    return shared.item() > 0
