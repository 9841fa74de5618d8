"""One file over HTTP, complete and verified, whatever the network does on the way.

Bytes gather in ``NAME.part`` beside the target, so a transfer that broke off, in this process or an earlier
one, goes on where it stopped (range requests, RFC 9110 section 14). The target appears in one rename, when
size and checksum are right.
"""

import logging
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import httpx

from detrkit.data.fetch.progress import Progress, Watch
from detrkit.errors import DetrkitError

logger = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds in which a connection must be there, and the next bytes must come; so long Ctrl-C may take."""

BLOCK = 2**20
"""Bytes that are read at once from a file."""

_PASSING = frozenset({408, 425, 429})
"""Client errors that may be gone at the next try; the others are final."""


class Source(NamedTuple):
    """A file on a server: ``size`` in bytes, ``sha256`` in hexadecimal digits."""

    url: str
    size: int
    sha256: str


class Retries(NamedTuple):
    """How often and when it is tried again; times are in seconds.

    Only tries in a row that bring no byte count towards ``tries``: a large file may break off any number of
    times. The pauses double from ``first`` up to ``longest``; ``wait`` must return early when the work ends.
    """

    wait: Callable[[float], object]
    tries: int = 6
    first: float = 1.0
    longest: float = 60.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row."""
        return min(self.longest, self.first * 2.0 ** (failures - 1))


class _BrokenError(Exception):
    """A try that failed, and that another may follow."""


def download(client: httpx.Client, source: Source, target: Path, retries: Retries, watch: Watch) -> None:
    """Have ``target`` hold the file; one that is there already is kept if it is right.

    Raises:
        DetrkitError: The server does not have the file, fails again and again, or has another one.
    """
    if target.exists():
        if is_intact(target, source, watch):
            return
        logger.warning("%s is damaged, so it is fetched again.", target)
        target.unlink()
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):
        _complete(client, source, part, retries, watch)
        if is_intact(part, source, watch):
            part.replace(target)
            return
        part.unlink()
        logger.warning("%s arrived with a wrong checksum.", source.url)
    raise DetrkitError(
        f"{source.url} has the right size but not the SHA-256 {source.sha256}, twice: the file there is "
        "another or damaged; name another server with --mirror."
    )


def is_intact(path: Path, source: Source, watch: Watch) -> bool:
    """Whether size and checksum of a file are as expected."""
    if path.stat().st_size != source.size:
        return False
    digest, done = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            watch(Progress(source.url, "checking", done, source.size))
    return digest.hexdigest() == source.sha256


def _complete(client: httpx.Client, source: Source, part: Path, retries: Retries, watch: Watch) -> None:
    """Receive what ``part`` lacks, in as many tries as it takes."""
    if _size(part) > source.size:
        part.unlink()
    failures = 0
    while (before := _size(part)) < source.size:
        try:
            _receive(client, source, part, watch)
            continue
        except (_BrokenError, httpx.HTTPError) as error:
            reason = str(error) or type(error).__name__
        failures = 1 if _size(part) > before else failures + 1
        if failures >= retries.tries:
            raise DetrkitError(
                f"{source.url} cannot be fetched, {failures} tries in a row failed ({reason}): check the "
                f"network or name another server with --mirror; the same command goes on from the "
                f"{_size(part):,} of {source.size:,} bytes that are here."
            )
        pause = retries.pause(failures)
        logger.warning("%s broke off (%s); trying again in %.0f s.", source.url, reason, pause)
        retries.wait(pause)


def _receive(client: httpx.Client, source: Source, part: Path, watch: Watch) -> None:
    """Append to ``part`` what one answer of the server brings."""
    held = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    with client.stream("GET", source.url, headers=headers) as response:
        done = _first_byte(response, source, part, held)
        with part.open("ab" if done else "wb") as file:
            watch(Progress(source.url, "fetching", done, source.size))
            for block in response.iter_raw():  # as they come: what had to be gathered first could be lost
                done += file.write(block[: source.size - done])
                watch(Progress(source.url, "fetching", done, source.size))
    if done < source.size:
        raise _BrokenError(f"it ended after {done:,} of {source.size:,} bytes")


def _first_byte(response: httpx.Response, source: Source, part: Path, held: int) -> int:
    """Where in the file the body of an answer begins: after what is held, or 0."""
    match response.status_code:
        case 200:
            _require_size(response.headers.get("Content-Length"), source)
            return 0
        case 206:
            return _first_of_range(response.headers.get("Content-Range", ""), source, part, held)
        case 416:
            part.unlink(missing_ok=True)
            raise _BrokenError("it has no bytes after those that are here, so these are given up")
        case status if status in _PASSING or status >= 500:
            raise _BrokenError(f"it answers {status} {response.reason_phrase}")
        case status:
            raise DetrkitError(
                f"{response.url} answers {status} {response.reason_phrase}, but the file is expected there: "
                "check --mirror, the proxy and the network, or fetch again later."
            )


def _first_of_range(stated: str, source: Source, part: Path, held: int) -> int:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated)
    if found is None or int(found[1]) != held:
        part.unlink(missing_ok=True)
        raise _BrokenError(f"it answers with the range '{stated}' when asked for the bytes from {held:,}")
    _require_size(None if found[2] == "*" else found[2], source)
    return held


def _require_size(stated: str | None, source: Source) -> None:
    if stated is not None and stated != str(source.size):
        raise _BrokenError(f"it states {stated} bytes where {source.size} are expected")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
