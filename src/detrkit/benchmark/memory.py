"""The most memory that a detector takes, measured in processes that do nothing else.

``measure_memory`` starts one process for an entrant, which imports what is needed and then forks another
for each measurement, before any thread of torch's is there. So imports are paid for once, and no measurement
finds memory that an earlier one has left.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil
import torch

from detrkit.benchmark.contestant import Conditions
from detrkit.benchmark.entrant import Untrained, Weights
from detrkit.benchmark.looking import look_of
from detrkit.benchmark.opened import Opened, open_network
from detrkit.benchmark.results import Memory, Precision
from detrkit.benchmark.training_speed import training_step
from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.errors import DetrkitError

_PASSES = 3
"""Of each measurement: what the first allocates, later ones may allocate once more."""


class Measured(NamedTuple):
    """What is to be measured, as it goes to another process."""

    network: dict[str, str]
    data: str
    split: str
    overrides: dict[str, Any]
    device: str
    threads: int
    precisions: tuple[Precision, ...]
    training_batch: int


def measure_memory(network: Weights | Untrained, same: Conditions) -> Memory:
    """Bytes of answering the first image of the split, in each precision, and of training in the first.

    On a CPU, it is by how much a process grew at most since it had imported everything; on CUDA, the most
    that tensors took.

    Raises:
        DetrkitError: The process failed, such as for want of memory.
    """
    named = {"recipe": network.recipe} if isinstance(network, Untrained) else {"path": str(network.path)}
    asked = Measured(
        network=named,
        data=str(same.data),
        split=same.split,
        overrides=dict(same.overrides),
        device=str(same.device),
        threads=torch.get_num_threads(),
        precisions=same.effort.precisions,
        training_batch=same.effort.training_batch,
    )
    command = [sys.executable, "-m", "detrkit.benchmark.memory"]
    done = subprocess.run(
        command, input=msgspec.json.encode(asked), capture_output=True, check=False, timeout=3600
    )
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        raise DetrkitError(
            f"the memory of {next(iter(named.values()))} could not be measured: {last}; leave it out with "
            "--without-memory."
        )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Memory)


def main() -> None:
    """Measure what standard input asks for, and write a ``Memory`` to standard output."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Measured)
    inference = {precision: _in_a_process(_answering, asked, precision) for precision in asked.precisions}
    training = _in_a_process(_training, asked, asked.precisions[0]) if asked.training_batch else None
    sys.stdout.write(json.dumps({"inference": inference, "training": training}) + "\n")


def _in_a_process(
    prepare: Callable[["Measured", Precision], Callable[[], object]], asked: Measured, precision: Precision
) -> int:
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, prepare, asked, precision))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        process.join()
        sys.exit(f"the process ended with {process.exitcode}, as it does where memory does not suffice")


def _measure(
    out: Connection,
    prepare: Callable[[Measured, Precision], Callable[[], object]],
    asked: Measured,
    precision: Precision,
) -> None:
    """Send the most bytes that running takes, of all that the process took since it was forked."""
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    # a first small product, since libraries allocate their own then
    torch.nn.Conv2d(3, 8, 3).to(device)(torch.zeros(1, 3, 32, 32, device=device)).sum().backward()
    before = 0 if device.type == "cuda" else psutil.Process().memory_info().rss
    run = prepare(asked, precision)
    _forget_the_peak(device)
    for _ in range(_PASSES):
        run()
    out.send(_peak(device) - before)


def _answering(asked: Measured, precision: Precision) -> Callable[[], object]:
    (detector, _), catalog = _opened(asked)
    look = look_of("", detector, precision, catalog, lambda: 0.0)
    batch = look.prepare([0])
    return lambda: look.answer(batch)


def _training(asked: Measured, precision: Precision) -> Callable[[], object]:
    opened, catalog = _opened(asked)
    step = training_step(opened, catalog, asked.training_batch, torch.device(asked.device))
    return lambda: step(precision)


def _opened(asked: Measured) -> tuple[Opened, Catalog]:
    catalog = read_split(Path(asked.data), asked.split)
    network = Weights(Path(asked.network["path"])) if "path" in asked.network else None
    network = network or Untrained(asked.network["recipe"])
    return open_network(network, catalog.categories, torch.device(asked.device), asked.overrides), catalog


def _forget_the_peak(device: torch.device) -> None:
    """Count from here on, so that loading weights, which holds them twice, does not count.

    Linux can; elsewhere it counts on a CPU.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text("utf-8").splitlines())
        return next(1024 * int(line[1]) for line in lines if line and line[0] == "VmHWM:")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
