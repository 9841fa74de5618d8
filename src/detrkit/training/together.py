"""How processes that train together end when one of them fails.

They wait for each other in every step. When one is gone, what the others exchange breaks off with an error
of the network, which says nothing of the cause. So the first that fails leaves its reason in the store where
the processes met, which a launcher keeps, and the others end with that instead of an error of their own.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed
from torch.distributed.distributed_c10d import _get_default_store

from detrkit.errors import DetrkitError, ToldElsewhereError
from detrkit.training.interruption import Interruption

logger = logging.getLogger(__name__)

_REASON, _MISSED = "detrkit.reason", "detrkit.missed"
"""Keys in the store: why the first process failed, and how many found one gone that had left no reason."""
_WORDLESS = (
    "Another process of this run has ended without a word. The launcher or the system's log names it; one "
    "that was killed mostly ran out of memory. With --resume, the run goes on from its last save."
)
_SECONDS_TO_TELL = 1.0
"""Launchers end all processes as soon as one has ended, so one that lets another tell leaves after it."""


@contextmanager
def ending_together(tell: Callable[[DetrkitError], None]) -> Iterator[None]:
    """While entered, what ends one process ends the others too, and is told once.

    ``tell`` hears of it in every process, unless it is a bug of this one.

    Raises:
        ToldElsewhereError: in place of an error that another process has told, or of a broken exchange.
    """
    try:
        yield
    except Exception as error:
        # A launcher that saw another process end asks this one to: not before it has told.
        with Interruption():
            ending = _ending(error) if torch.distributed.is_initialized() else error
            if isinstance(ending, DetrkitError):
                tell(ending)
        if ending is error:
            raise
        raise ending from None


def _ending(error: Exception) -> Exception:
    """What ends the process: its own error, unless another process tells what is the matter."""
    broken = _is_broken_exchange(error)
    try:
        if broken:
            return _missing()
        return _awaited() if isinstance(error, ToldElsewhereError) else _failing(error)
    except torch.distributed.DistError:  # the store is gone, with the process that kept it
        return DetrkitError(_WORDLESS) if broken else error


def _missing() -> Exception:
    """Another process is gone. If it left no reason, the first to notice says so."""
    store = _get_default_store()
    if store.check([_REASON]):
        return ToldElsewhereError(store.get(_REASON).decode())
    if store.add(_MISSED, 1) == 1:
        logger.error(_WORDLESS)
    return ToldElsewhereError(_WORDLESS)


def _awaited() -> Exception:
    """Another process is failing as well, and knows more of the reason."""
    store = _get_default_store()
    store.wait([_REASON], timedelta(seconds=10 * _SECONDS_TO_TELL))
    time.sleep(_SECONDS_TO_TELL)
    return ToldElsewhereError(store.get(_REASON).decode())


def _failing(error: Exception) -> Exception:
    """The process fails for a reason of its own, and leaves it, unless another has left the same."""
    me = f"process {torch.distributed.get_rank()}"
    reason = str(error) if isinstance(error, DetrkitError) else f"{type(error).__name__}: {error}"
    found = _get_default_store().compare_set(_REASON, "", f"{me}: {reason}").decode()
    who, _, left = found.partition(": ")
    if who == me or left != reason:
        return error
    time.sleep(_SECONDS_TO_TELL)
    return ToldElsewhereError(found)


def _is_broken_exchange(error: Exception) -> bool:
    """Whether this is what gloo or nccl say where another process is gone."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error)
    )
