"""The most memory that a detector takes, measured in processes that do nothing else.

``measure_memory`` starts one process, which imports what is needed and then forks another for each
measurement, before any thread of torch's is there. So imports are paid for once, and no measurement finds
memory that an earlier one has left.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
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

    networks: list[dict[str, str]]
    data: str
    split: str
    overrides: dict[str, Any]
    device: str
    threads: int
    precisions: tuple[Precision, ...]
    training_batch: int


Prepare = Callable[[Measured, Precision], Callable[[], object]]
"""Makes ready what is then run a few times."""


def measure_memory(networks: Sequence[Weights | Untrained], same: Conditions) -> list[Memory]:
    """Bytes of answering the first image of the split, in each precision, and of training in the first.

    On a CPU, it is by how much a process grew at most since it had imported everything, without the code of
    libraries that was read on the way; on CUDA, the most that tensors took.
    """
    asked = Measured(
        networks=[_plain(network) for network in networks],
        data=str(same.data),
        split=same.split,
        overrides=dict(same.overrides),
        device=str(same.device),
        threads=torch.get_num_threads(),
        precisions=same.effort.precisions,
        training_batch=same.effort.training_batch,
    )
    command = [sys.executable, "-m", "detrkit.benchmark.memory"]
    done = subprocess.run(command, input=msgspec.json.encode(asked), capture_output=True, check=False)
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
        return [Memory({}, None, last) for _ in networks]
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=list[Memory])


def main() -> None:
    """Measure what standard input asks for, and write a list of ``Memory`` to standard output."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Measured)
    found = [_memory_of(_network(plain), asked) for plain in asked.networks]
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def _memory_of(network: Weights | Untrained, asked: Measured) -> Memory:
    training: int | str | None = None
    found = {one: _in_a_process(partial(_answering, network), asked, one) for one in asked.precisions}
    if asked.training_batch:
        training = _in_a_process(partial(_training, network), asked, asked.precisions[0])
    return Memory(
        inference={precision: one for precision, one in found.items() if isinstance(one, int)},
        training=training if isinstance(training, int) else None,
        failed="; ".join(dict.fromkeys(one for one in [*found.values(), training] if isinstance(one, str))),
    )


def _plain(network: Weights | Untrained) -> dict[str, str]:
    return {"recipe": network.recipe} if isinstance(network, Untrained) else {"path": str(network.path)}


def _network(plain: dict[str, str]) -> Weights | Untrained:
    return Untrained(plain["recipe"]) if "recipe" in plain else Weights(Path(plain["path"]))


def _in_a_process(prepare: Prepare, asked: Measured, precision: Precision) -> int | str:
    """What ``_measure`` sends from a process of its own, or that it has died."""
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, prepare, asked, precision))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        process.join()
        return f"the process ended with {process.exitcode}, as it does where memory does not suffice"


def _measure(out: Connection, prepare: Prepare, asked: Measured, precision: Precision) -> None:
    """Send by how many bytes this process grew at most, or why it could not."""
    try:
        out.send(_grown_by(prepare, asked, precision))
    except DetrkitError as error:
        out.send(str(error))
    except Exception as error:  # noqa: BLE001 the page says what failed, and the other figures stand
        out.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _grown_by(prepare: Prepare, asked: Measured, precision: Precision) -> int:
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    # a first small product, since libraries allocate their own then
    torch.nn.Conv2d(3, 8, 3).to(device)(torch.zeros(1, 3, 32, 32, device=device)).sum().backward()
    before = 0 if device.type == "cuda" else _held()
    run = prepare(asked, precision)
    _forget_the_peak(device)
    for _ in range(_PASSES):
        run()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _highest()
    return peak - before


def _answering(network: Weights | Untrained, asked: Measured, precision: Precision) -> Callable[[], object]:
    (detector, _), catalog = _opened(network, asked)
    look = look_of("", detector, precision, catalog, lambda: 0.0)
    batch = look.prepare([0])
    return lambda: look.answer(batch)


def _training(network: Weights | Untrained, asked: Measured, precision: Precision) -> Callable[[], object]:
    opened, catalog = _opened(network, asked)
    step = training_step(opened, catalog, asked.training_batch, torch.device(asked.device))
    return lambda: step(precision)


def _opened(network: Weights | Untrained, asked: Measured) -> tuple[Opened, Catalog]:
    catalog = read_split(Path(asked.data), asked.split)
    return open_network(network, catalog.categories, torch.device(asked.device), asked.overrides), catalog


def _forget_the_peak(device: torch.device) -> None:
    """Count from here on, so that loading weights, which holds them twice, does not count.

    Linux can; elsewhere it counts on a CPU.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _held() -> int:
    """Resident bytes of this process, on Linux without those of files, such as its libraries."""
    status = _status()
    return status["RssAnon"] if "RssAnon" in status else psutil.Process().memory_info().rss


def _highest() -> int:
    """The highest number of such bytes so far. Libraries are read by the first pass, and stay."""
    status = _status()
    if "VmHWM" in status:
        return status["VmHWM"] - status["RssFile"]
    import resource  # which Windows does not have

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _status() -> dict[str, int]:
    """What Linux tells of the memory of this process, in bytes."""
    path = Path("/proc/self/status")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    words = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(number) for name, number, _ in words}


if __name__ == "__main__":
    main()
