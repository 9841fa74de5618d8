"""Our own file: one ``.safetensors`` with the settings and categories in its metadata.

It holds numbers and JSON only, so opening one never runs code of its author. Files are written under a
temporary name, tensors compared with what was meant, flushed to the disk and renamed, so that a reader never
meets half of one, and the file that had the name before stays until the new one is whole.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from detrkit.catalog import Category
from detrkit.data.names import is_writable
from detrkit.errors import DetrkitError, shown
from detrkit.settings.experiment import Experiment, parse

DAMAGED = (KeyError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading settings and categories from JSON raises where it is not what was written."""

_VERSION = 1


class Stored(NamedTuple):
    """What a file holds: enough to build the detector again."""

    experiment: Experiment
    categories: tuple[Category, ...]
    tensors: dict[str, Tensor]


def write(
    path: Path, tensors: Mapping[str, Tensor], experiment: Experiment, categories: tuple[Category, ...]
) -> None:
    """Write a detector's state with the settings that built it and the meaning of its labels."""
    write_tensors(path, tensors, to_metadata(experiment, categories))


def read(path: Path, overrides: Mapping[str, object] | None = None) -> Stored:
    """What ``write`` wrote, with settings overridden. DetrkitError, naming the file, for anything else."""
    tensors, metadata = read_tensors(path)
    if "detrkit" not in metadata:
        raise DetrkitError(
            f"{path} is a safetensors file, but its metadata does not say that detrkit wrote it."
        )
    experiment, categories = from_metadata(metadata, path, overrides)
    return Stored(experiment, categories, tensors)


def to_metadata(experiment: Experiment, categories: tuple[Category, ...]) -> dict[str, str]:
    """Settings and categories as a safetensors file's metadata."""
    about = {
        "version": _VERSION,
        "experiment": experiment.model_dump(mode="json"),
        "categories": categories,
    }
    # One entry only, since safetensors writes several in an order that changes from file to file.
    return {"detrkit": json.dumps(about, ensure_ascii=False)}


def from_metadata(
    metadata: Mapping[str, str], path: Path, overrides: Mapping[str, object] | None = None
) -> tuple[Experiment, tuple[Category, ...]]:
    """What ``to_metadata`` noted, with settings overridden. DetrkitError, naming the file, if damaged."""
    try:
        about = json.loads(metadata["detrkit"])
        version = about["version"]
        categories = read_categories(about["categories"])
        settings = about["experiment"]
        if not isinstance(settings, dict):
            raise TypeError("experiment is no table")
    except DAMAGED as error:
        raise DetrkitError(
            f"{path} has damaged metadata: {type(error).__name__} {shown(str(error))}."
        ) from None
    if version != _VERSION:
        raise DetrkitError(
            f"{path} is of version {shown(version)}, but this detrkit reads version {_VERSION}."
        )
    return parse(settings, str(path), overrides), categories


def read_categories(rows: Any) -> tuple[Category, ...]:
    """Categories from their JSON rows; one of ``DAMAGED`` where these are."""
    categories = tuple(Category(int(number), str(name), bool(used)) for number, name, used in rows)
    for category in categories:
        if not is_writable(category.name):
            raise ValueError(f"the class {shown(category.name)} is no UTF-8")
    return categories


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that is either there in whole or not at all; OSError where it cannot be."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with _room_beside(path) as temporary:
        try:
            save_file(stored, temporary, metadata)
            _require_same(stored, temporary)
            with suppress(OSError):  # safetensors' own mode is the writer's alone, whatever the umask
                (beside := temporary.with_name("mode")).touch()
                shutil.copymode(beside, temporary)
        except SafetensorError as error:
            raise _as_os_error(error, path) from None
        replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either there in whole or not at all; OSError where it cannot be."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; DetrkitError where it is none."""
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DetrkitError(f"{path} is not a readable safetensors file: {str(error)[:200]}.") from None


def replace(temporary: Path, path: Path) -> None:
    """Flush a file to the disk and give it its name, in place of the file that had it."""
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    flush(path.parent)


def flush(folder: Path) -> None:
    """Flush to the disk which files and folders lie in a folder."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _room_beside(path: Path) -> Iterator[Path]:
    """Where the file can be written before it gets its name: alone in a folder.

    safetensors has temporary files too, under names at random. In a folder of their own, what a kill leaves
    of them is found and removed by the next attempt.
    """
    room = path.with_name(f".{path.name}.writing")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    try:
        yield room / path.name
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _require_same(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a file that has not, to the last bit, what was written into it."""
    with safe_open(path, framework="pt") as opened:
        for name, tensor in tensors.items():
            if not torch.equal(_bytes_of(opened.get_tensor(name)), _bytes_of(tensor)):
                raise OSError(errno.EIO, f"tensor {name} reads back other than it was written", str(path))


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """What the operating system said, which safetensors tells as text alone."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(errno.EIO, str(error), str(path))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))
