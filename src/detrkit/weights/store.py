"""Our own file: one ``.safetensors`` with the settings and categories in its metadata.

It holds numbers and JSON only, so opening one never runs code of its author. Files are written under a
temporary name, flushed to the disk and renamed, so that a reader never meets half of one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from detrkit.catalog import Category
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, parse

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
    except (KeyError, ValueError, TypeError) as error:
        raise DetrkitError(f"{path} has damaged metadata: {type(error).__name__} {error}.") from None
    if version != _VERSION:
        raise DetrkitError(f"{path} is of version {version}, but this detrkit reads version {_VERSION}.")
    return parse(settings, str(path), overrides), categories


def read_categories(rows: Any) -> tuple[Category, ...]:
    """Categories from their JSON rows; ValueError or TypeError where these are damaged."""
    return tuple(Category(int(number), str(name), bool(used)) for number, name, used in rows)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that is either there in whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata
    )
    replace(temporary, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; DetrkitError where it is none."""
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DetrkitError(f"{path} is not a readable safetensors file: {error}.") from None


def replace(temporary: Path, path: Path) -> None:
    """Flush a file to the disk and give it its name, in place of the file that had it."""
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
