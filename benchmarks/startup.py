"""How long the command takes to show its help: processes of their own, one after the other."""

import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from statistics import median
from typing import Any

from harness import Row, Spread, parse, record

REPEATS = 11
HEAVY = ("torch", "torchvision", "numpy", "matplotlib", "accelerate", "scipy")


def measure(repeats: int = REPEATS) -> dict[str, Any]:
    """Seconds of ``detrkit --help``, of a Python that does nothing, and what the command imports."""
    command = Path(sys.executable).with_name("detrkit")
    helping, nothing = [], []
    for _ in range(repeats):
        helping.append(_seconds([str(command), "--help"]))
        nothing.append(_seconds([sys.executable, "-c", "pass"]))
    imported = _imported()
    return {
        "help_seconds": {"median": median(helping), "least": min(helping), "most": max(helping)},
        "python_seconds": median(nothing),
        "modules": len(imported),
        "heavy_modules": sorted(set(HEAVY) & imported),
    }


def main(options: Namespace) -> None:
    found = measure(options.repeats)
    helping = found["help_seconds"]
    row = Row(
        "detrkit --help (median, least, most)",
        Spread(helping["median"], helping["least"], helping["most"]),
        0.5,
        "s",
        at_most=True,
        ours=f"{found['modules']} modules imported",
        peer=f"{found['python_seconds']:.3f} s (a Python that does nothing)",
    )
    record(options, [row], **found)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _imported() -> set[str]:
    program = ["-X", "importtime", "-c", "from detrkit.cli.main import main; main()", "--help"]
    ran = subprocess.run([sys.executable, *program], check=True, capture_output=True, text=True)
    lines = (line for line in ran.stderr.splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip() for line in lines}


if __name__ == "__main__":
    main(parse(__doc__, repeats=REPEATS))
