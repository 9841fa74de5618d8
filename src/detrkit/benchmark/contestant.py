"""Entrants with what they stand for at hand, and the conditions that are the same for all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, assert_never

import torch

from detrkit.benchmark.entrant import Entrant, Exported, Network, Untrained, Weights
from detrkit.benchmark.exported import Session, open_session
from detrkit.benchmark.opened import Opened, open_network
from detrkit.benchmark.results import Effort
from detrkit.catalog import Catalog, map_labels
from detrkit.data.dataset import require_images
from detrkit.errors import DetrkitError


class Conditions(NamedTuple):
    """What is the same for all: ``catalog`` is ``split`` of ``data``."""

    catalog: Catalog
    data: Path
    split: str
    out: Path
    overrides: Mapping[str, object]
    device: torch.device
    workers: int
    effort: Effort


class Contestant(NamedTuple):
    """An entrant, and its network if it has one."""

    entrant: Entrant
    opened: Opened | Session | None


def open_all(entrants: Sequence[Entrant], same: Conditions) -> list[Contestant]:
    """All of them, so that whatever is at fault is found before anything takes time.

    Raises:
        DetrkitError: There is none, two have one name, or a network cannot be used on this data.
    """
    if not entrants:
        raise DetrkitError("there is nobody to measure: name a run, a file of weights or a recipe.")
    names = [one.name for one in entrants]
    for name in names:
        if names.count(name) > 1:
            raise DetrkitError(f"{names.count(name)} entrants are called {name}: give each its own NAME=.")
    if any(one.network is not None for one in entrants):
        require_images(same.catalog)
    return [Contestant(one, None if one.network is None else _open(one.network, same)) for one in entrants]


def _open(network: Network, same: Conditions) -> Opened | Session:
    match network:
        case Exported(path):
            return open_session(path, same.device)
        case Weights() | Untrained():
            opened = open_network(network, same.catalog.categories, same.device, same.overrides)
            map_labels(opened.detector.categories, same.catalog.categories, where=str(same.catalog.source))
            return opened
        case _:
            assert_never(network)
