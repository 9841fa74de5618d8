"""The benchmark: every entrant's accuracy first, then what all cost, in turns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from detrkit.benchmark.entrant import Entrant
from detrkit.benchmark.events import Listener
from detrkit.benchmark.results import Effort, Results

_USUAL = Effort()


def benchmark(
    entrants: Sequence[Entrant],
    data: Path,
    split: str,
    out: Path,
    listener: Listener,
    *,
    effort: Effort = _USUAL,
    overrides: Mapping[str, object] | None = None,
    device: torch.device | None = None,
    workers: int = 2,
    command: str = "",
) -> Results:
    """Accuracy and costs of all entrants on one split; ``out`` receives ``results.json``.

    ``split`` may be empty: val2017 or val, whichever the dataset has. What an entrant detected is kept in
    ``out/accuracy/``, so that the same benchmark goes on after an interruption without detecting it again;
    times are always measured anew, all in one go. ``overrides`` change settings of all entrants that have
    settings, such as ``{"data.eval_short_side": 480}``.

    Raises:
        DetrkitError: The data, an entrant or the device is at fault.
    """
    raise NotImplementedError
