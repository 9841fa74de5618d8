"""Draw AP over training seconds of the runs of this study: `python draw.py RUNS OUT.svg`.

Runs are of a fixed number of steps, and seconds are steps times the pace of a step, measured with both
backbones in turns on an idle machine. Those of the grown ResNet-101 begin where its ResNet-50 ended.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt

from detrkit.monitoring.jsonl import read_log

PACE = {"r50": 0.183, "grown": 0.331, "scratch": 0.331}
"""Seconds of a step."""
COLOURS = {"r50": "#0072B2", "grown": "#D55E00", "scratch": "#009E73"}
NAMES = {"r50": "ResNet-50", "grown": "ResNet-101 grown from it", "scratch": "ResNet-101 from scratch"}
SEEDS = range(3)


def curve(run: Path, kind: str, start: float) -> tuple[list[float], list[float]]:
    """Seconds and AP of a run's validations."""
    validations = [line for line in read_log(run / "log.jsonl") if line["event"] == "validation"]
    return [start + PACE[kind] * line["step"] for line in validations], [
        line["metrics"]["AP"] for line in validations
    ]


def main() -> None:
    runs, out = Path(sys.argv[1]), Path(sys.argv[2])
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for seed in SEEDS:
        start = 0.0
        for kind, name in NAMES.items():
            seconds, found = curve(runs / f"{kind}-{seed}", kind, start if kind == "grown" else 0.0)
            start = seconds[-1] if kind == "r50" else start
            label = name if seed == 0 else None
            axes.plot(seconds, found, marker=".", color=COLOURS[kind], label=label)
            print(f"| {seed} | {name} | {seconds[-1]:.0f} s | {max(found):.3f} |")
    axes.set(xlabel="seconds of training", ylabel="validation AP", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
