"""COCO's images and annotations of objects, in COCO's own layout.

Each archive is a part of its own: it is looked at, downloaded, verified and extracted while the others are.
Archives, what is unfinished and the records of what is complete lie in ``.fetch`` inside the dataset.
"""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Literal, NamedTuple

import httpx

from detrkit.data.fetch.download import TIMEOUT, Retries, Source, download
from detrkit.data.fetch.extract import Wanted, extract, require_space
from detrkit.data.fetch.progress import Progress, Watch
from detrkit.data.fetch.record import find_damage, read_record, write_record
from detrkit.data.fetch.releases import SERVER, Part
from detrkit.errors import DetrkitError

logger = logging.getLogger(__name__)

FOLDER = ".fetch"
"""Where, inside the dataset, archives and records lie."""

_BLOCK = 4096
"""Bytes that a disk gives out at once: each file wastes up to as many."""

_PACKED = 4
"""An estimate from above of how many times larger annotations are than their archive; images do not pack."""


class Outcome(NamedTuple):
    """What became of a part: it was fetched, was there, or was there but came from elsewhere."""

    part: Part
    state: Literal["fetched", "there", "found"]


_State = Literal["there", "found", "lacking"]


class Transfer(NamedTuple):
    """How it is fetched: from where, trying how often, and whether the archives stay."""

    server: str
    retries: Retries
    keep_archives: bool


class _StoppedError(Exception):
    """Ends the threads of a fetch that ended already."""


def fetch_coco(
    root: Path,
    parts: Sequence[Part],
    watch: Watch,
    *,
    server: str = SERVER,
    keep_archives: bool = False,
    retries: Retries | None = None,
) -> list[Outcome]:
    """Have ``root`` hold the parts, fetching those that are not there or are damaged.

    Args:
        root: The folder of the dataset; it is made if there is none.
        parts: Of ``releases.parts_of``.
        watch: Is told how far each part is.
        server: The address before an archive's path. Proxies are those of the environment.
        keep_archives: Whether archives stay in ``root/.fetch``.
        retries: How often a transfer that fails is tried again.

    Raises:
        DetrkitError: What cannot be fetched, verified or written. What is here by then is used next time.
    """
    if not server.startswith(("http://", "https://")):
        raise DetrkitError(f"--mirror {server} is no address that starts with http:// or https://.")
    try:
        states: list[tuple[Part, _State]] = [(part, _state(root, part)) for part in parts]
        lacking = [part for part, state in states if state == "lacking"]
        if lacking:
            _require_space(root, lacking)
            (root / FOLDER).mkdir(parents=True, exist_ok=True)
            stopped = Event()
            transfer = Transfer(server.rstrip("/"), retries or Retries(stopped.wait), keep_archives)
            _fetch_all(root, lacking, transfer, watch, stopped)
    except OSError as error:
        raise DetrkitError(
            f"{error.filename or root} cannot be read or written ({error.strerror}): make that possible or "
            "name another folder; the same command goes on with what is here."
        ) from None
    return [Outcome(part, "fetched" if state == "lacking" else state) for part, state in states]


def archive_file(root: Path, part: Part) -> Path:
    """Where the archive of a part lies until it is extracted, and after that if it is kept."""
    return root / FOLDER / f"{part.name}.zip"


def _state(root: Path, part: Part) -> _State:
    folder, record = root / part.wanted.folder, _record_file(root, part)
    recorded = read_record(record)
    if not recorded:
        return "found" if _seems_complete(folder, part.wanted) else "lacking"
    if not recorded.keys() >= set(part.wanted.names):
        return "lacking"
    damaged = find_damage(folder, record, part.wanted.names or tuple(recorded))
    if damaged:
        logger.warning(
            "%s: %s of its files are missing or damaged, such as %s; they are fetched again.",
            folder,
            f"{len(damaged):,}",
            damaged[0],
        )
    return "lacking" if damaged else "there"


def _seems_complete(folder: Path, wanted: Wanted) -> bool:
    """Whether somebody else put there all that is wanted, as far as names and their number tell."""
    if wanted.names:
        return all(_is_filled(folder / name) for name in wanted.names)
    return folder.is_dir() and _count(folder.glob("*.jpg")) == wanted.num_images


def _is_filled(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _count(items: Iterable[object]) -> int:
    return sum(1 for _ in items)


def _require_space(root: Path, parts: Sequence[Part]) -> None:
    needed = 0
    for part in parts:
        archive = archive_file(root, part)
        held = [file.stat().st_size for file in (archive, Path(f"{archive}.part")) if file.exists()]
        needed += _to_extract(root, part) + max(0, part.archive.size - sum(held))
    require_space(root, needed, "fetching and extracting " + ", ".join(part.name for part in parts))


def _to_extract(root: Path, part: Part) -> int:
    """About how many bytes extracting will add; what exactly, the archive will tell."""
    wanted = part.wanted
    if wanted.names:
        return part.archive.size * _PACKED
    folders = (root / wanted.folder, root / FOLDER / wanted.folder)
    missing = wanted.num_images - max(_count(folder.glob("*.jpg")) for folder in folders)
    return max(0, missing) * (part.archive.size // wanted.num_images + _BLOCK)


def _fetch_all(root: Path, parts: Sequence[Part], transfer: Transfer, watch: Watch, stopped: Event) -> None:
    """Fetch the parts at the same time. The first that fails, and Ctrl-C, end all of them."""

    def watch_unless_stopped(progress: Progress) -> None:
        if stopped.is_set():
            raise _StoppedError
        watch(progress)

    with _client() as client, ThreadPoolExecutor(len(parts)) as pool:
        futures = [pool.submit(_fetch, client, root, part, transfer, watch_unless_stopped) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stopped.set()
            raise


def _client() -> httpx.Client:
    try:
        return httpx.Client(follow_redirects=True, timeout=TIMEOUT)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise DetrkitError(
            f"the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used: {error}"
        ) from None


def _fetch(client: httpx.Client, root: Path, part: Part, transfer: Transfer, watch: Watch) -> None:
    def watch_part(progress: Progress) -> None:
        watch(progress._replace(part=part.name))

    archive = archive_file(root, part)
    source = Source(f"{transfer.server}/{part.archive.path}", part.archive.size, part.archive.sha256)
    download(client, source, archive, transfer.retries, watch_part)
    contents = extract(archive, part.wanted, root, root / FOLDER / part.wanted.folder, watch_part)
    record = _record_file(root, part)
    write_record(record, read_record(record) | contents)
    if not transfer.keep_archives:
        archive.unlink()


def _record_file(root: Path, part: Part) -> Path:
    return root / FOLDER / f"{part.name}.json"
