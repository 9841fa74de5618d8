"""A dataset whose images are packed into tar files, as ``formats/shards.py`` describes them.

Few large files are read faster than many small ones where every file costs a request to a server. Which
image comes where is a permutation by a seed, so that a shard is a random part of its split, and all is a
function of what is given: whatever was written before an interruption is what would be written again.

A shard has its name when it is complete, a split its index when it has all shards, and last its annotations,
by which it is found.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog, require_files
from detrkit.data.convert import chosen_splits
from detrkit.data.dataset import require_images
from detrkit.data.fetch.extract import require_space
from detrkit.data.formats.coco import annotations_file, write_coco
from detrkit.data.formats.recognise import read_split, recognise
from detrkit.data.formats.resized import read_resized, write_resized
from detrkit.data.formats.shards import INDEX, Index, Origin, digest_images, read_index, size_of
from detrkit.data.names import require_writable
from detrkit.data.shards.plan import Limits, Plan, plan_shards
from detrkit.data.shards.tar import read_back, write_shard
from detrkit.errors import DetrkitError

NO_LIMIT = 2**62
"""Of the bytes or the images of a shard."""

_BEGUN = ".begun.json"
"""In the folder of a split that is not complete, what its shards are made from."""

Watch = Callable[[str, int, int], None]
"""Is told the split, and how many of how many bytes of its shards are there."""


class Written(NamedTuple):
    """The shards of a split, and how many of them were written now."""

    images: int
    shards: int
    written: int
    bytes: int


def write_shards(
    source: Path,
    target: Path,
    watch: Watch,
    *,
    limits: Limits,
    chosen: tuple[str, ...] = (),
    seed: int = 0,
) -> dict[str, Written]:
    """Pack the splits of a dataset into shards in ``target``, or those of them that are not there yet.

    Args:
        source: A dataset of files, in any layout.
        target: A folder for a dataset in COCO's layout. Other splits there are left alone.
        watch: Is told after every image.
        limits: Of every shard.
        chosen: Splits, by default all.
        seed: Says which images share a shard.

    Raises:
        DetrkitError: An image is missing, the disk has no room, or ``target`` holds something else.
    """
    if target.resolve() == source.resolve():
        raise DetrkitError(f"{target} holds the dataset itself: name another folder for its shards.")
    _keep_sizes(source, target)
    written = {}
    for split in chosen_splits(source, recognise(source), chosen):
        catalog = read_split(source, split)
        require_writable([str(source.resolve()), split, *catalog.file_names.tolist()], catalog.source)
        require_files(catalog)
        require_images(catalog)
        try:
            written[split] = _write_split(catalog, source.resolve(), target, split, limits, seed, watch)
        except OSError as error:
            raise DetrkitError(
                f"the shards of {split} cannot be written to {target} ({error}): make room, or name a folder "
                "that can be written; the same command then goes on."
            ) from None
    return written


def _keep_sizes(source: Path, target: Path) -> None:
    """Let the shards of a copy with smaller images be known as such."""
    resized, there = read_resized(source), read_resized(target)
    side, side_there = (None if one is None else one.short_side for one in (resized, there))
    if side != side_there and target.is_dir() and any(target.iterdir()):
        raise DetrkitError(
            f"{target} has shards of images of another size than those of {source}: name another folder."
        )
    if resized is not None and there is None:
        target.mkdir(parents=True, exist_ok=True)
        write_resized(target, resized)


def _write_split(
    catalog: Catalog, source: Path, target: Path, split: str, limits: Limits, seed: int, watch: Watch
) -> Written:
    folder, annotations = target / split, annotations_file(target, split)
    passing = annotations.with_name(f".{annotations.name}.part")
    _require_own(folder, annotations, split)
    try:
        write_coco(catalog, passing)
        digest = sha256(passing.read_bytes()).hexdigest()
        origin = Origin(str(source), digest, seed, limits.bytes, limits.images)
        plan = plan_shards(catalog, split, limits, seed)
        checksums, written = _write_missing(plan, folder, split, _begin(plan, folder, origin), watch)
        _replace(folder / INDEX, _index(plan, origin, checksums))
        (folder / _BEGUN).unlink(missing_ok=True)
        if not annotations.exists():
            passing.replace(annotations)
    finally:
        passing.unlink(missing_ok=True)
    return Written(len(catalog), len(plan.files), written, sum(plan.sizes))


def _require_own(folder: Path, annotations: Path, split: str) -> None:
    """Refuse to write among files that are not of an earlier call."""
    ours = re.compile(rf"{re.escape(split)}-\d{{6,}}\.tar|\..*|{re.escape(INDEX)}")
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = [folder / name for name in names if not ours.fullmatch(name)]
    if not names and annotations.exists():
        foreign = [annotations]
    if foreign:
        raise DetrkitError(
            f"{foreign[0]} is there already and does not belong to shards of {split}: name another folder."
        )


def _begin(plan: Plan, folder: Path, origin: Origin) -> Int64[np.ndarray, " images"] | None:
    """Refuse shards of another origin; the checksums of the images, if an index tells them."""
    folder.mkdir(parents=True, exist_ok=True)
    index, begun = read_index(folder), folder / _BEGUN
    earlier = (_read_begun(begun) or origin) if index is None else index.origin
    _require_same(earlier, origin, folder)
    surplus = sorted({file.name for file in folder.glob("*.tar")} - set(plan.files))
    if surplus:
        raise _differ(folder, f"there would be no {surplus[0]}")
    if index is None:
        _replace(begun, origin)
        return None
    checksums = np.array(index.checksums, np.int64)
    if index != _index(plan, earlier, checksums):
        raise _differ(folder, "image files were changed since")
    return checksums


def _read_begun(file: Path) -> Origin | None:
    """What the shards of an interrupted call are made from, if that is known."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Origin)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _write_missing(
    plan: Plan, folder: Path, split: str, known: Int64[np.ndarray, " images"] | None, watch: Watch
) -> tuple[Int64[np.ndarray, " images"], int]:
    """The checksums of all images, and how many shards had to be written."""
    missing = [
        size for name, size in zip(plan.files, plan.sizes, strict=True) if size_of(folder / name) != size
    ]
    require_space(folder, sum(missing), f"packing {split}")
    checksums = np.zeros_like(plan.lengths) if known is None else known
    done, written, total = 0, 0, sum(plan.sizes)

    def advance(size: int) -> None:
        nonlocal done
        done += size
        watch(split, done, total)

    for number, (name, size) in enumerate(zip(plan.files, plan.sizes, strict=True)):
        file, members, before = folder / name, plan.members[number], done
        found = _found(plan, number, file, checksums, trusted=known is not None)
        if found is None:
            found = write_shard(plan, number, file, advance)
            written += 1
        checksums[members] = found
        advance(before + size - done)
    return checksums, written


def _found(
    plan: Plan, number: int, file: Path, checksums: Int64[np.ndarray, " images"], *, trusted: bool
) -> Int64[np.ndarray, " members"] | None:
    """The checksums of the images of a shard that is there already, or None if it is to be written."""
    if size_of(file) != plan.sizes[number]:
        return None
    return checksums[plan.members[number]] if trusted else read_back(plan, number, file)


def _require_same(earlier: Origin, origin: Origin, folder: Path) -> None:
    before = (earlier.seed, earlier.shard_bytes, earlier.shard_images)
    now = (origin.seed, origin.shard_bytes, origin.shard_images)
    for name, old, new in zip(
        ("the seed", "bytes per shard:", "images per shard:"), before, now, strict=True
    ):
        if old != new:
            raise _differ(folder, f"they were made with {name} {_limit(old)}, not {_limit(new)}")
    if earlier.annotations != origin.annotations:
        raise _differ(folder, f"they have other annotations than {origin.source} has now")


def _limit(value: int) -> str:
    return "any" if value == NO_LIMIT else f"{value:,}"


def _differ(folder: Path, reason: str) -> DetrkitError:
    return DetrkitError(
        f"{folder} holds shards that differ from those to be written: {reason}; remove that folder and its "
        "annotations, or name another one."
    )


def _index(plan: Plan, origin: Origin, checksums: Int64[np.ndarray, " images"]) -> Index:
    return Index(
        format=1,
        origin=origin,
        images=digest_images(plan.catalog),
        files=plan.files,
        sizes=plan.sizes,
        shard=plan.shard.tolist(),
        offsets=plan.offsets.tolist(),
        lengths=plan.lengths.tolist(),
        checksums=checksums.tolist(),
    )


def _replace(file: Path, content: Index | Origin) -> None:
    part = file.with_name(f".{file.name}.part")
    part.write_bytes(msgspec.json.encode(content))
    part.replace(file)
