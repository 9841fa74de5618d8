"""An hour of trouble: runs are trained, killed, asked to stop, corrupted, resumed and evaluated at random.

``python tests/soak/soak.py --minutes 60 --seed 0``, which is ``make soak``. Each round trains a run that is
left alone, then the same run amid mishaps drawn from the seed, by the command line, until it comes to its
end, and requires that both end with the same bits. Moments are by the clock, so what a mishap hits differs
from soak to soak. Prints what happened as Markdown; ends with 1, and leaves its folder, where a promise was
broken.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 60
SETTINGS = {
    "train.max_steps": STEPS,
    "train.checkpoint_every": 5,
    "train.validate_every": 1.5,
    "train.precision": "fp32",
    "data.short_sides": [64],
    "data.max_size": 64,
    "data.batch_size": 4,
    "train.trackers": [],
}
MEASURED = ("seconds", "data_seconds", "images_per_second", "data_share", "memory", "raw_seconds")
ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
GRACE = 30
"""Seconds in which a run ends that is asked to stop."""
TIMEOUT = 300
"""Seconds after which a command hangs, since none takes a fifth of that."""


class BrokenPromiseError(Exception):
    """Something was not as docs/reliability.md says."""


@dataclass
class Soak:
    """Where it takes place and what has happened."""

    folder: Path
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    slowest_end: float = 0.0

    @property
    def data(self) -> Path:
        return self.folder / "shapes"

    def detrkit(self, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "detrkit", *map(str, words)]
        said = (self.folder / "said.txt").open("w")
        return subprocess.Popen(command, stdout=said, stderr=said, text=True, start_new_session=True)

    def said(self) -> str:
        return (self.folder / "said.txt").read_text("utf-8")

    def ended(self, process: subprocess.Popen[str]) -> int:
        try:
            return process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise BrokenPromiseError(f"{process.args} hangs") from None

    def require(self, holds: bool, promise: str) -> None:
        if not holds:
            raise BrokenPromiseError(f"{promise}; the command said: {self.said()[-2000:]}")


def train(soak: Soak, out: Path, seed: int) -> subprocess.Popen[str]:
    """Begin the run, or go on with it."""
    settings = SETTINGS | {"train.seed": seed}
    assignments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    resume = ["--resume"] if out.exists() else []
    return soak.detrkit("train", "shapes", "--data", soak.data, "--out", out, *assignments, *resume)


def some_time(soak: Soak) -> None:
    time.sleep(soak.rng.uniform(2, 15))


def killed(soak: Soak, out: Path, seed: int) -> bool:
    process = train(soak, out, seed)
    some_time(soak)
    os.killpg(process.pid, signal.SIGKILL)
    soak.require(soak.ended(process) in (-signal.SIGKILL, 0), "a run is killed or has ended")
    return True


def asked_to_stop(soak: Soak, out: Path, seed: int) -> bool:
    process, number = train(soak, out, seed), soak.rng.choice(ASKED)
    some_time(soak)
    before, begun = log_of(out), time.monotonic()
    os.killpg(process.pid, number)
    code, seconds = soak.ended(process), time.monotonic() - begun
    soak.slowest_end = max(soak.slowest_end, seconds)
    soak.require(seconds <= GRACE, f"a run that {number.name} asks to stop ends within {GRACE} s")
    if code == -number:  # before its first step there is nothing to save, and the signal itself ends it
        after = log_of(out)
        soak.require(after == before[: len(after)], f"a run that {number.name} itself ends took no step")
        return True
    soak.require(code in (128 + number, 0), f"a run that {number.name} asks to stop ends with it")
    state = json.loads((out / "last" / "state.json").read_text("utf-8"))
    last = max((line["step"] for line in log_of(out)), default=0)
    soak.require(state["progress"]["step"] == last, f"a run that {number.name} ends has saved its last step")
    return True


def meets_a_broken_image(soak: Soak, out: Path, seed: int) -> bool:
    image = soak.rng.choice(sorted((soak.data / "train").glob("*.png")))
    content = image.read_bytes()
    image.write_bytes(soak.rng.choice([b"", content[: len(content) // 2], bytes(1 << 20)]))
    code = soak.ended(train(soak, out, seed))
    soak.require(code in (0, 2), "an image that cannot be read ends a run with 2, where the run meets it")
    soak.require(code == 0 or image.name in soak.said(), f"the run names {image.name}")
    image.write_bytes(content)
    return True


def meets_a_broken_state(soak: Soak, out: Path, seed: int) -> bool:
    files = [*(out / "last").glob("tensors-*.safetensors"), *(out / "last").glob("state.json")]
    if not files:
        return False
    broken = soak.rng.choice(files)
    content = broken.read_bytes()
    broken.write_bytes(content[: soak.rng.randrange(len(content))])
    code = soak.ended(train(soak, out, seed))
    soak.require(code == 2 and broken.name in soak.said(), f"a run whose {broken.name} is cut is refused")
    broken.write_bytes(content)
    return True


def loses_half_a_line(soak: Soak, out: Path, seed: int) -> bool:
    log = out / "log.jsonl"
    if not log.exists() or not log.stat().st_size:
        return False
    with log.open("ab") as file:
        file.write(b'{"event": "step", "st')
    return killed(soak, out, seed)


def is_evaluated(soak: Soak, out: Path, seed: int) -> bool:
    if not (out / "model.safetensors").exists():
        return False
    evaluated(soak, out)
    return True


MISHAPS: dict[str, Callable[[Soak, Path, int], bool]] = {
    "killed": killed,
    "asked to stop": asked_to_stop,
    "met a broken image": meets_a_broken_image,
    "met a cut state": meets_a_broken_state,
    "resumed a log that ended in half a line": loses_half_a_line,
    "evaluated amid it": is_evaluated,
}
"""By name; each tells whether it could take place."""


def evaluated(soak: Soak, out: Path) -> dict[str, Any]:
    results = soak.folder / "evaluation"
    shutil.rmtree(results, ignore_errors=True)
    code = soak.ended(soak.detrkit("evaluate", out, "--data", soak.data, "--out", results))
    soak.require(code == 0, "what was kept can be evaluated")
    return json.loads((results / "metrics.json").read_text("utf-8"))


def log_of(out: Path) -> list[dict[str, Any]]:
    """Steps and validations, without what a clock or a gauge measured, and without lines that were cut."""
    log = out / "log.jsonl"
    lines = [parsed(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    kept = [line for line in lines if line.get("event") in ("step", "validation")]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in kept]


def parsed(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def is_over(out: Path) -> bool:
    log = out / "log.jsonl"
    return log.exists() and '"finished"' in log.read_text("utf-8")


def one_round(soak: Soak, number: int) -> None:
    alone, troubled = soak.folder / f"alone-{number}", soak.folder / f"troubled-{number}"
    soak.require(soak.ended(train(soak, alone, number)) == 0, "a run that is left alone comes to its end")
    while not is_over(troubled):
        name = soak.rng.choice(list(MISHAPS))
        if MISHAPS[name](soak, troubled, number):
            soak.counts[name] += 1
    for file in (f"last/tensors-{STEPS:08d}.safetensors", "last/state.json", "model.safetensors"):
        same = (alone / file).read_bytes() == (troubled / file).read_bytes()
        soak.require(same, f"{file} of {troubled} has the bits of {alone}")
    soak.require(log_of(alone) == log_of(troubled), f"the log of {troubled} tells what that of {alone} tells")
    soak.require(evaluated(soak, alone) == evaluated(soak, troubled), "both have the same figures")
    for out in (alone, troubled):
        shutil.rmtree(out)


def main() -> int:
    parser = argparse.ArgumentParser(description="Trouble at random, by a seed.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    soak = Soak(Path(tempfile.mkdtemp(prefix="soak-")), random.Random(asked.seed))
    images = ("train_images=40", "val_images=12", "image_size=64", "sides=[16,44]", "num_shapes=[1,3]")
    shapes = soak.detrkit("data", "shapes", soak.data, *(word for one in images for word in ("--set", one)))
    begun, rounds = time.monotonic(), 0
    try:
        soak.require(soak.ended(shapes) == 0, "shapes can be drawn")
        while time.monotonic() - begun < 60 * asked.minutes:
            one_round(soak, rounds)
            rounds += 1
    except BrokenPromiseError as error:
        print(f"After {rounds} rounds, seed {asked.seed}, in {soak.folder}: {error}")
        return 1
    minutes = (time.monotonic() - begun) / 60
    print(f"{rounds} rounds of {STEPS} steps in {minutes:.0f} minutes, seed {asked.seed}: every troubled run")
    print("ended with the bits, the log and the figures of the one that was left alone.\n")
    print("| mishap | times |\n|---|---|")
    for name, count in sorted(soak.counts.items()):
        print(f"| {name} | {count} |")
    print(f"\nThe longest time from a signal to the end of its run: {soak.slowest_end:.1f} s.")
    shutil.rmtree(soak.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
