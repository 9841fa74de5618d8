"""A copy of a dataset with smaller image files, for machines whose processors decode too slowly.

Annotations stay in the pixels of the originals, to the last bit, and so do the views that training draws,
evaluation, and what is small, medium and large. Images that are not larger than asked for are hard links.
The others become JPEGs, and get ``.jpg`` after a name that does not say so. Their colours have half the
resolution, as cameras save them: views of photos differ a sixth more from those of the originals, and
are made up to a quarter faster.

A file is done when it has the time of its original. So an interrupted copy goes on where it was, and what
changed in the originals since is made again.
"""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from detrkit.catalog import Catalog
from detrkit.data.dataset import require_images
from detrkit.data.formats.coco import annotations_file, encode_coco
from detrkit.data.formats.recognise import read_split, splits
from detrkit.data.formats.resized import Resized, read_resized, require_originals, write_resized
from detrkit.data.images import read_image
from detrkit.data.loader import heed_the_parent_alone
from detrkit.data.names import require_writable
from detrkit.data.views import Size, stored_size
from detrkit.data.write import link_or_copy
from detrkit.errors import DetrkitError

Show = Callable[[int, int], object]
"""Is told how many of how many files are done."""


class Copy(NamedTuple):
    """The splits as they were and as they are in the copy, and how many files were made for it this time."""

    originals: dict[str, Catalog]
    copies: dict[str, Catalog]
    made: int

    @property
    def resized(self) -> int:
        """How many images are smaller than they were."""
        return sum(catalog.num_resized for catalog in self.copies.values())


class Space(NamedTuple):
    """Bytes of image files, each counted once."""

    originals: int
    copies: int
    linked: int
    """Those of the copy that are hard links, and so take no room."""


class _Task(NamedTuple):
    """What is made of an original of a stated size, under one name or, in several splits, under more."""

    original: Path
    size: Size
    copies: tuple[Path, ...]


def write_resized_copy(
    source: Path,
    target: Path,
    short_side: int,
    *,
    quality: int = 95,
    chosen: tuple[str, ...] = (),
    workers: int = 0,
    show: Show = lambda done, all_of_them: None,
) -> Copy:
    """Make ``target`` a copy of ``source`` whose images have shorter sides of ``short_side`` at most.

    It is built in ``TARGET.part``, from where the same call goes on, and gets its name when all is there.
    What a complete copy lacks is made; if that is nothing, nothing is done.

    Args:
        source: A dataset in any layout.
        target: A folder that does not exist, is empty, or was made from the same annotations in this way.
        short_side: In pixels.
        quality: Of the JPEGs, up to 100.
        chosen: Splits, by default all.
        workers: Processes; with 0, this one does the work.
        show: Is told of every file.

    Raises:
        DetrkitError: The source is at fault, such as an image that cannot be read, or the target holds
            something else or cannot be written.
    """
    require_originals(source)
    target = target.absolute()  # since . has no name
    names = _chosen(source, chosen)
    originals = {split: read_split(source, split) for split in names}
    require_writable([str(source.absolute()), *names], source)
    for catalog in originals.values():
        require_writable(catalog.file_names.tolist(), catalog.source)
        require_images(catalog)
    record = Resized(short_side, quality, tuple(names), str(source.absolute()))
    try:
        root = _begun(target, record)
        copies = {
            split: _catalog_of_copy(catalog, root, split, short_side) for split, catalog in originals.items()
        }
        _write_annotations(copies)
        made = _make_files(_tasks(originals, copies), record, workers, show)
        if root != target:
            _give_name(root, target)
    except OSError as error:
        raise DetrkitError(
            f"{target} cannot be written ({error}): make room, or name a folder that can be; the same "
            "command goes on where it was."
        ) from None
    return Copy(originals, {split: read_split(target, split, "coco") for split in names}, made)


def space(copy: Copy) -> Space:
    """The disk that the images of both datasets take."""
    originals, copies = _files(copy.originals), _files(copy.copies)
    linked = copies.keys() & originals.keys()
    return Space(sum(originals.values()), sum(copies.values()), sum(copies[file] for file in linked))


def _files(catalogs: Mapping[str, Catalog]) -> dict[tuple[int, int], int]:
    """The size of each file, by what it is to the disk."""
    states = (catalog.path(index).stat() for catalog in catalogs.values() for index in range(len(catalog)))
    return {(state.st_dev, state.st_ino): state.st_size for state in states}


def _chosen(source: Path, chosen: tuple[str, ...]) -> list[str]:
    """The splits to copy, sorted."""
    found = splits(source)
    for split in chosen:
        if split not in found:
            raise DetrkitError(f"{source} has no split {split}, but {', '.join(found)}: name some of these.")
    return sorted(set(chosen)) or found


def _begun(target: Path, record: Resized) -> Path:
    """The folder to work in, with the record: the target if it is complete, else the one beside it."""
    if _holds_something(target):
        _require_same(target, record)
        return target
    part = target.with_name(f"{target.name}.part")
    if _holds_something(part):
        _require_same(part, record)
    else:
        part.mkdir(parents=True, exist_ok=True)
        write_resized(part, record)
    return part


def _holds_something(folder: Path) -> bool:
    if folder.is_dir():
        return any(folder.iterdir())
    return folder.exists() or folder.is_symlink()


def _require_same(folder: Path, record: Resized) -> None:
    found = read_resized(folder) if folder.is_dir() else None
    if found is None:
        raise DetrkitError(
            f"{folder} already exists and holds no copy of this kind: name a new folder for the copy."
        )
    for name, option in (("short_side", "--size"), ("quality", "--quality"), ("splits", "--splits")):
        before, asked = (_written(getattr(one, name)) for one in (found, record))
        if before != asked:
            raise DetrkitError(
                f"{folder} was made with {option} {before}, not {asked}: name another folder, or remove it."
            )


def _written(value: int | tuple[str, ...]) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _catalog_of_copy(catalog: Catalog, root: Path, split: str, short_side: int) -> Catalog:
    """The catalog with the files of the copy; a name that two images would get is an error."""
    names = [
        _copied_name(str(name), _is_larger(catalog.size(index), short_side))
        for index, name in enumerate(catalog.file_names)
    ]
    owners: dict[str, str] = {}
    for before, name in zip(catalog.file_names.tolist(), names, strict=True):
        if owners.setdefault(name, before) != before:
            raise DetrkitError(
                f"{catalog.source}: both {owners[name]} and {before} would become {name}: rename one of them."
            )
    return replace(
        catalog,
        source=annotations_file(root, split),
        folder=root / split,
        file_names=np.array(names),
        short_side=short_side,
    )


def _copied_name(name: str, is_larger: bool) -> str:
    return f"{name}.jpg" if is_larger and not name.lower().endswith((".jpg", ".jpeg")) else name


def _is_larger(size: Size, short_side: int) -> bool:
    return min(size) > short_side


def _write_annotations(copies: Mapping[str, Catalog]) -> None:
    """Write the annotations of all splits, or see that those which are there are the same."""
    for split, catalog in copies.items():
        file, content = catalog.source, encode_coco(catalog)
        if not file.exists():
            _written_whole(file, lambda part, content=content: part.write_bytes(content))
        elif file.read_bytes() != content:
            raise DetrkitError(
                f"{file} differs from what the annotations of {split} have become: name another folder, or "
                f"remove {file.parent.parent}."
            )


def _tasks(originals: Mapping[str, Catalog], copies: Mapping[str, Catalog]) -> list[_Task]:
    """One for each file, also where it stands in several splits."""
    wanted: dict[tuple[Path, Size], list[Path]] = {}
    for split, catalog in originals.items():
        for index in range(len(catalog)):
            key = catalog.path(index).resolve(), catalog.size(index)
            wanted.setdefault(key, []).append(copies[split].path(index))
    return [_Task(*key, tuple(dict.fromkeys(paths))) for key, paths in wanted.items()]


def _make_files(tasks: list[_Task], record: Resized, workers: int, show: Show) -> int:
    """Do what is not done yet, and return how many tasks that were."""
    open_tasks = [task for task in tasks if not _is_done(task)]
    done = len(tasks) - len(open_tasks)
    show(done, len(tasks))
    with closing(_each_result(_Work(open_tasks, record), workers)) as results:
        for number, error in enumerate(results, start=done + 1):
            if error is not None:
                raise error
            show(number, len(tasks))
    return len(open_tasks)


def _is_done(task: _Task) -> bool:
    made = int(task.original.stat().st_mtime)  # not all file systems keep more than seconds
    try:
        return all(int(copy.stat().st_mtime) == made for copy in task.copies)
    except FileNotFoundError:
        return False


class _Work(Dataset[Exception | None]):
    """Tasks, each done when it is asked for. Errors are returned, for a worker would bury them."""

    def __init__(self, tasks: list[_Task], record: Resized) -> None:
        self._tasks = tasks
        self._record = record

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, index: int) -> Exception | None:
        try:
            _make(self._tasks[index], self._record)
        except (DetrkitError, OSError) as error:
            return error
        return None


def _each_result(work: _Work, workers: int) -> Generator[Exception | None]:
    yield from DataLoader(
        work,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=min(workers, len(work)),
        worker_init_fn=heed_the_parent_alone,
    )


def _unchanged(result: Any) -> Any:
    return result


def _make(task: _Task, record: Resized) -> None:
    first, *others = task.copies
    if _is_larger(task.size, record.short_side):
        _written_whole(first, lambda part: _save_resized(task.original, task.size, part, record))
    else:
        _written_whole(first, lambda part: link_or_copy(task.original, part))
    for other in others:
        _written_whole(other, lambda part: link_or_copy(first, part))


def _written_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Have a file written beside its place, and put there when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    write(part)
    part.replace(file)
    part.unlink(missing_ok=True)  # it stays where both are links to one file


def _save_resized(original: Path, size: Size, file: Path, record: Resized) -> None:
    height, width = stored_size(size, record.short_side)
    pixels = Image.fromarray(read_image(original, size).permute(1, 2, 0).numpy())
    resized = pixels.resize((width, height), Image.Resampling.BILINEAR)
    resized.save(file, "JPEG", quality=record.quality, subsampling="4:2:0")
    state = original.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def _give_name(root: Path, target: Path) -> None:
    if target.is_dir():
        target.rmdir()  # it is empty
    root.rename(target)
