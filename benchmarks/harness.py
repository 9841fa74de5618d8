"""Ways of doing one thing, timed in turns, and the record that is kept of it.

Machines are shared and change their pace, so a figure is never one time divided by another that was taken
later. The ways take turns (A B A B ..), each turn gives a ratio, and the figure is the median of the ratios
with its quartiles. A record has all times of all turns, and where they were taken.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Times = dict[str, list[float]]
"""Seconds of every turn, by way."""


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """One figure. It is met where ``measured`` is at least ``target``, or at most if ``at_most``.

    ``unit`` stands behind the number, such as ``x`` or ``%``. ``ours`` and ``peer`` are what was
    compared, in words: ``0.52 s``.
    """

    figure: str
    measured: Spread
    target: float | None = None
    unit: str = "x"
    at_most: bool = False
    ours: str = ""
    peer: str = ""


def parse(description: str | None, repeats: int) -> Namespace:
    """The options that every benchmark has: device, repeats, out, short."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=repeats, help="turns that are timed")
    parser.add_argument("--out", type=Path, help="the JSON file; else benchmarks/results/NAME.json")
    parser.add_argument(
        "--short", action="store_true", help="a tiny form in seconds, whose figures mean nothing"
    )
    return parser.parse_args()


def take_turns(ways: Mapping[str, Callable[[], object]], options: Namespace) -> Times:
    """The seconds of ``options.repeats`` turns of every way, after turns to warm up, which do not count."""
    times: Times = {name: [] for name in ways}
    warmup = 0 if options.short else 2
    for turn in range(warmup + options.repeats):
        for name, run in ways.items():
            _wait(options.device)
            start = time.perf_counter()
            run()
            _wait(options.device)
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """One ratio per turn."""
    return [above / below for above, below in zip(numerator, denominator, strict=True)]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(median, low, high)


def speedup(figure: str, times: Times, *, peer: str, ours: str, target: float | None = None) -> Row:
    """How many times faster ``ours`` is than ``peer``, turn by turn."""
    medians = {name: spread(times[name]).median for name in (peer, ours)}
    return Row(
        figure,
        spread(ratios(times[peer], times[ours])),
        target,
        ours=seconds(medians[ours]),
        peer=f"{seconds(medians[peer])} ({peer})",
    )


def seconds(value: float) -> str:
    """A time with three digits, in seconds or milliseconds."""
    return f"{value:#.3g} s" if value >= 0.1 else f"{value * 1000:#.3g} ms"


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of all convolutions and matrix products, backward ones included.

    A multiplication and an addition count as two. Attention is made of matrix products meanwhile, since
    torch does not count all of its fused kernels.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def in_precision(device: str, precision: str) -> Any:
    """The autocast that a peer's user would write."""
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


def record(options: Namespace, rows: Sequence[Row], **measured: Any) -> None:
    """Print the rows, and write them with all that was ``measured``, and where and by what."""
    name = Path(sys.argv[0]).stem
    out = options.out or (RESULTS / "short" if options.short else RESULTS) / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name,
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(options.device),
        "short": options.short,
        "rows": [row._asdict() | {"measured": row.measured._asdict()} for row in rows],
        **measured,
    }
    out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    for row in rows:
        wanted = "" if row.target is None else f"  (asked: {row.target:g})"
        absolute = " against ".join(filter(None, (row.ours, row.peer)))
        median, low, high = row.measured
        print(f"{row.figure}: {median:.3g} {row.unit} [{low:.3g}, {high:.3g}]{wanted}  {absolute}")
    print(f"written: {out}")


def describe_machine(device: str) -> dict[str, Any]:
    """What times depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = told.get("flags", "").split()
    return {
        "processor": told.get("model name", "unknown"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _commit() -> str:
    """The commit that the code is at, and whether it was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
    return git("rev-parse", "--short", "HEAD").strip() + (" with changes" if changed else "")
