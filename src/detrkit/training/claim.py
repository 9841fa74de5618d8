"""A run folder belongs to one job at a time: two would remove each other's states.

The system forgets a lock with the process that has it, whatever ends that. So a kill leaves a file that
nobody holds, and the next job takes it.
"""

import errno
import logging
import os
import platform
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from detrkit.errors import DetrkitError
from detrkit.training.refusals import reason

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_NAME = "run.lock"
_ATTEMPTS = 10
"""How often the file may vanish before it can be locked, as it does where another job ends at that moment."""


class Claim:
    """Keeps other processes from training in the folder ``out``, from ``take`` until the end of the ``with``.

    It is a lock of POSIX, which forks do not inherit: workers that outlive a killed trainer hold nothing. Nor
    does it stand between two runs of one process, of which the first was abandoned. A process that opens the
    file elsewhere and closes it gives its lock back, so nothing here reads it. Windows has none.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out / _NAME
        self._descriptor: int | None = None
        self._folder: tuple[int, int] | None = None
        self._token = secrets.token_hex(8)
        self.lost = False
        """Whether another process has the folder since ``hold`` found so."""

    def take(self) -> None:
        """Claim the folder, which must be there. Where nothing can be locked, that is warned of.

        Raises:
            DetrkitError: another process has it.
        """
        if sys.platform == "win32" or self._descriptor is not None:
            return
        try:
            self._descriptor, self._folder = self._locked(), _identity(self._out)
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s), so nothing keeps a second job from training in %s, and two would "
                "remove each other's states. Start one alone.",
                self._path,
                reason(error),
                self._out,
            )

    def hold(self) -> None:
        """Require that the folder is still this job's, which it may be asked before every write.

        A lock goes with a folder that is moved. Where a copy has its name now, that is claimed. Where nothing
        has, or the disk does not answer, the folder may come back, and nothing is asked.

        Raises:
            DetrkitError: another process has it, or it is that of another run.
        """
        if self._descriptor is None:
            return
        try:
            if _is_named(self._descriptor, self._path):
                return
            folder = _identity(self._out)
        except OSError:
            return
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor, self.lost = None, True
        if folder != self._folder and not self._signed():
            raise DetrkitError(
                f"{self._out} is no longer the folder of this run: another has its name, or another job has "
                "taken it. The run ends without writing there; put its own back, and --resume goes on."
            )
        self.take()
        self.lost = False

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is None:
            return
        with suppress(OSError):
            if _is_named(self._descriptor, self._path):
                self._path.unlink()  # before it is let go: whoever locks it then sees that it has no name
        os.close(self._descriptor)
        self._descriptor = None

    def _locked(self) -> int:
        """The file, locked and with a word of who has it; OSError where that does not work."""
        for _ in range(_ATTEMPTS):
            # a link would lead to a file of others
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                self._lock(descriptor)
                if _is_named(descriptor, self._path):
                    self._sign(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def _sign(self, descriptor: int) -> None:
        """Say who has the folder: a line for people, and one by which a copy of it is known."""
        with suppress(OSError):  # the lock counts, and a full disk gives that too
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n{self._token}".encode(), 0)

    def _signed(self) -> bool:
        """Whether the folder that is there now is a copy of the one that was claimed."""
        try:
            return self._path.read_bytes()[:200].endswith(self._token.encode())
        except OSError:
            return False

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise DetrkitError(
                    f"{self._out} belongs to a job that is training in it ({_signature(descriptor)}): wait "
                    "for its end, or end it, or choose another --out."
                ) from None
            with suppress(OSError):
                self._path.unlink()
            raise


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the name of the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from others, whatever their names; an OSError where there is none."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _signature(descriptor: int) -> str:
    signed = os.pread(descriptor, 100, 0).decode(errors="replace").partition("\n")[0]
    return signed or "which has not said who it is"
