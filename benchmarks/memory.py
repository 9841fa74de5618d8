"""The most memory that a training step needs: weights, gradients, the optimiser's state and activations.

Every measurement is a process of its own. On a CPU it is the highest resident size less that after the
imports and a first small step of torch; on a GPU it is what torch allocated at most.
"""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import torch
from contestants import build_ours, build_peer
from harness import Row, parse, ratios, record, spread
from training_step import our_step, peer_step, step_images

PAIRS = (
    ("detrkit bf16", "peer fp32", 0.6),
    ("detrkit fp32", "peer fp32", None),
    ("detrkit bf16", "peer bf16", None),
)
"""Ours, the peer's, and the most that ours may need of it."""
MIB = 2**20


def main(options: Namespace) -> None:
    pairs = PAIRS[:1] if options.short else PAIRS
    peaks: dict[str, list[float]] = {way: [] for pair in pairs for way in pair[:2]}
    for _ in range(options.repeats):
        for way, found in peaks.items():
            found.append(_peak_in_a_process(way, options.device, options.short))
    rows = [_share(peaks, ours, peer, target) for ours, peer, target in pairs]
    record(options, rows, bytes=peaks)


def peak(way: str, device: str, short: bool) -> int:
    """Bytes that three steps of ``way`` need at most. Ask for it once per process."""
    side, precision = way.split()
    layer = torch.nn.Conv2d(3, 64, 3).to(device)
    layer(torch.randn(1, 3, 32, 32, device=device)).sum().backward()
    before = _highest(device)
    images = step_images(device, short)
    match side:
        case "peer":
            step = peer_step(build_peer(device, short), images, precision)
        case _:
            step = our_step(build_ours(device, short), images, precision)
    for _ in range(3):
        step()
    return _highest(device) - before


def _peak_in_a_process(way: str, device: str, short: bool) -> float:
    code = f"import memory; print(memory.peak({way!r}, {device!r}, {short}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def _highest(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _share(peaks: dict[str, list[float]], ours: str, peer: str, target: float | None) -> Row:
    precision, other = ours.split()[1], peer.split()[1]
    return Row(
        f"peak memory of the training step, {precision} against the peer's {other}",
        spread(ratios(peaks[ours], peaks[peer])),
        target,
        at_most=True,
        ours=f"{spread(peaks[ours]).median / MIB:.0f} MiB",
        peer=f"{spread(peaks[peer]).median / MIB:.0f} MiB",
    )


if __name__ == "__main__":
    main(parse(__doc__, repeats=3))
