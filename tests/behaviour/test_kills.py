"""A run that is killed anywhere, or asked to stop, and resumed ends with the bits of one left alone."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import detrkit
from detrkit.errors import DetrkitError
from detrkit.training import validate
from detrkit.training.events import Event, Interrupted, Started, Stepped

DRIVER = Path(__file__).with_name("killed_run.py")

COUNTS = [3, 0, 2, 1, 2, 4, 1, 4, 0, 2]
"""Objects per image; an epoch is 2.5 steps."""

EXACT: dict[str, object] = {
    "train.max_steps": 9,
    "data.batch_size": 4,
    "train.checkpoint_every": 2,
    "train.ema": 0.99,
    "model.transformer.dropout": 0.1,
    "model.backbone.levels": ["layer3"],  # a quarter of the weights
    "data.short_sides": [32, 40],
    "data.max_size": 48,
    "data.eval_short_side": 32,
    "train.trackers": [],
}
"""A run with all that could differ after a resumption."""

MEASURED = ("seconds", "data_seconds", "images_per_second", "data_share", "memory", "raw_seconds")
LEFT_ALONE = [0, "", 0]

Moment = list[Any]
Ends = list[tuple[int, int | None, float | None]]
"""Of each process: how it ended, the step that was saved, and the seconds from the signal to its end."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path_factory.mktemp("kills") / "data", train=COUNTS, val=[1, 2, 3])


def assigned(settings: dict[str, object]) -> list[str]:
    """The settings as words of a command."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def carry_out(
    folder: Path, data: Path, settings: dict[str, object], runs: dict[str, list[Moment]]
) -> dict[str, Ends]:
    """Train runs, by name, each in as many processes as it has moments."""
    # the command loads images in a worker, which a signal for all processes reaches too
    changes = {**settings, "data.workers": 1}
    case = {
        "data": str(data),
        "settings": settings,
        "runs": {str(folder / name): moments for name, moments in runs.items()},
        "command": ["train", "detr_r50", "--data", str(data), *assigned(changes)],
    }
    (folder / "case.json").write_text(json.dumps(case))
    command = [sys.executable, str(DRIVER), str(folder / "case.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return {name: [tuple(end) for end in found[str(folder / name)]] for name in runs}


def log(out: Path) -> list[dict[str, Any]]:
    """The log's steps and validations, without what a clock or a gauge measured."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in MEASURED}
        for line in lines
        if line["event"] in ("step", "validation")
    ]


def require_same(found: Path, expected: Path, steps: int) -> None:
    """What both runs left is the same to the last bit, and nothing is there that was cut short."""
    for name in (f"last/tensors-{steps:08d}.safetensors", "last/state.json", "model.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    for name in ("detections.json", "metrics.json"):
        assert (found / "evaluation" / name).read_bytes() == (expected / "evaluation" / name).read_bytes()
    assert [line["step"] for line in log(expected) if line["event"] == "step"] == list(range(1, steps + 1))
    assert log(found) == log(expected)
    assert {path.name for path in (found / "last").iterdir()} == {
        "state.json",
        f"tensors-{steps:08d}.safetensors",
    }
    assert not [path for path in found.rglob("*") if path.name.startswith(".")]  # what a kill cut short


def require_killed(ends: Ends) -> None:
    """Every process but the last was killed, and no state was lost by it."""
    assert [code for code, *_ in ends] == [-signal.SIGKILL] * (len(ends) - 1) + [0]
    steps = [-1 if step is None else step for _, step, _ in ends]
    assert steps == sorted(steps)


KILLED = [
    [signal.SIGKILL, "after the update", 2],
    [signal.SIGKILL, "half the tensors", 2],
    [signal.SIGKILL, "amid detection", 2],
    [signal.SIGKILL, "half a line", 3],
]
ASKED = [
    [signal.SIGTERM, "before the update", 1],
    [signal.SIGINT, "amid detection", 2],
    [signal.SIGUSR1, "before a flush", 3],  # the first two are those of run.json
    [signal.SIGUSR2, "before the figures", 1],
]


class Short(NamedTuple):
    """Runs of 9 steps, and how the processes that trained them ended."""

    folder: Path
    ends: dict[str, Ends]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, data: Path, small_detr: dict[str, object]) -> Short:
    folder = tmp_path_factory.mktemp("short")
    runs = {"alone": [LEFT_ALONE], "killed": [*KILLED, LEFT_ALONE], "asked": [*ASKED, LEFT_ALONE]}
    return Short(folder, carry_out(folder, data, small_detr | EXACT, runs))


def test_a_run_killed_in_a_step_a_save_a_validation_and_a_line(short: Short) -> None:
    ends = short.ends["killed"]
    require_killed(ends)
    # before the first save; in the one of step 3; in the validation after it; while step 6 is told
    assert [step for _, step, _ in ends] == [None, 2, 3, 3, 9]
    require_same(short.folder / "killed", short.folder / "alone", 9)


def test_a_run_asked_to_stop_saves_says_how_to_go_on_and_ends_as_a_shell_expects(
    short: Short, data: Path
) -> None:
    out, ends = short.folder / "asked", short.ends["asked"]
    assert [code for code, *_ in ends] == [143, 130, 138, 140, 0]
    for number, ((signalled, *_), (_, step, seconds)) in enumerate(zip(ASKED, ends[:-1], strict=True)):
        said = Path(f"{out}-{number}.txt").read_text()
        assert f"Interrupted by {signal.Signals(signalled).name}; step {step} is saved" in said
        assert f"Go on with: detrkit train detr_r50 --data {data} " in said
        assert said.rstrip().endswith(f"--out {out} --resume")
        assert seconds is not None
        assert seconds < 30
    # after one step; in the validation after step 3, which is given up
    assert [step for _, step, _ in ends[:2]] == [1, 3]
    require_same(out, short.folder / "alone", 9)


class Server:
    """What workers read from, as a network's: when it is away, they wait for ever."""

    def __init__(self) -> None:
        self.asked = self.ended = 0.0

    def go_away(self) -> None:
        """A second later the run is asked to stop."""
        for worker in psutil.Process().children():
            worker.suspend()
        threading.Timer(1, self._ask).start()

    def come_back(self, event: Event) -> None:
        """When the run has saved."""
        if isinstance(event, Interrupted):
            self.ended = time.monotonic()
            for worker in psutil.Process().children():
                worker.resume()

    def _ask(self) -> None:
        self.asked = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("amid", ["training", "validation"])
def test_a_run_that_waits_for_data_saves_at_once(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    small_detr: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    amid: str,
) -> None:
    def lose_it_in_step_3(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 3 and amid == "training":
            server.go_away()

    def lose_it_with_the_first_image(*given: Any) -> list[Any]:
        if next(images) == 0 and amid == "validation":
            server.go_away()
        return to_results(*given)

    server, images, to_results = Server(), itertools.count(), validate.to_results
    monkeypatch.setattr(validate, "to_results", lose_it_with_the_first_image)
    data, out = write_coco(tmp_path / "data", train=COUNTS, val=[1] * 20), tmp_path / "run"
    settings = small_detr | EXACT | {"data.workers": 1, "train.max_steps": 8, "train.validate_every": 2.5}
    experiment = detrkit.recipe("detr_r50", settings)
    events = list(detrkit.fit(experiment, data, out, listeners=[lose_it_in_step_3, server.come_back]))
    assert 0 < server.ended - server.asked < 5  # torch waits longer for a worker that hangs
    steps = [event.step for event in events if isinstance(event, Stepped)]
    assert events[-1] == Interrupted(len(steps), out, signal.SIGTERM)
    # a worker has two more batches ready; a validation comes after step 7
    assert len(steps) in ((3, 4, 5) if amid == "training" else (7,))
    assert next(images) <= (0 if amid == "training" else 12)
    state = json.loads((out / "last" / "state.json").read_text())
    assert state["progress"]["step"] == len(steps)
    assert state["progress"]["validation_due"] is (amid == "validation")
    *_, finished = detrkit.fit(experiment, data, out, resume=True)
    assert finished.step == 8


@pytest.mark.long
def test_a_command_whose_workers_never_wake_up_ends_in_half_a_minute(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    """At its exit, multiprocessing would wait for them."""
    settings = small_detr | EXACT | {"train.max_steps": 10_000, "data.workers": 2}
    settings |= {"train.validate_every": 1e6}  # a validation has workers too
    words = ["train", "detr_r50", "--data", data, "--out", tmp_path / "run", *assigned(settings)]
    command = [sys.executable, "-m", "detrkit", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        wait_for_step(tmp_path / "run", 3)
        workers = psutil.Process(run.pid).children()
        assert len(workers) == 2
        for worker in workers:
            worker.suspend()
        time.sleep(5)
        begun = time.monotonic()
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert run.returncode == 143
    assert "Interrupted by SIGTERM" in said
    assert "Traceback" not in said
    assert not any(worker.is_running() for worker in workers)


POINTS = [
    "building",
    "before the update",
    "after the update",
    "half the tensors",
    "half the json",
    "before a flush",
    "before a rename",
    "after a rename",
    "before a removal",
    "half a line",
    "after a line",
    "amid detection",
    "before the figures",
    "between the best weights and their figures",
]


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_25_moments_at_random(
    tmp_path: Path, data: Path, small_detr: dict[str, object], seed: int
) -> None:
    rng = random.Random(seed)
    # a process builds its network once
    moments = [[signal.SIGKILL, point, rng.randint(1, 4) if point != "building" else 1] for point in POINTS]
    moments += [[signal.SIGKILL, "by the clock", [rng.randint(1, 4), rng.uniform(0, 4)]] for _ in range(11)]
    rng.shuffle(moments)
    settings = small_detr | EXACT | {"train.max_steps": 200}  # no process comes further than ten steps
    runs = {"alone": [LEFT_ALONE], "killed": [*moments, LEFT_ALONE]}
    require_killed(carry_out(tmp_path, data, settings, runs)["killed"])
    require_same(tmp_path / "killed", tmp_path / "alone", 200)


@pytest.mark.long
def test_two_processes_asked_together_with_their_launcher_save(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    """The launcher passes on what reached its processes too: they are asked twice."""
    settings = small_detr | EXACT | {"train.max_steps": 10_000}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [
        "-m",
        "detrkit",
        "train",
        "detr_r50",
        "--data",
        data,
        "--out",
        tmp_path / "run",
        *assigned(settings),
    ]
    with subprocess.Popen(
        [*launch, *map(str, words)],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as launched:
        wait_for_step(tmp_path / "run", 3)
        os.killpg(launched.pid, signal.SIGTERM)
        _, said = launched.communicate(timeout=60)

    state = json.loads((tmp_path / "run" / "last" / "state.json").read_text())
    assert f"Interrupted by SIGTERM; step {state['progress']['step']} is saved" in said
    steps, (*_, last) = log(tmp_path / "run"), (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert steps[-1]["step"] == state["progress"]["step"]
    assert json.loads(last)["event"] == "interrupted"


def wait_for_step(out: Path, step: int) -> None:
    until = time.monotonic() + 180
    while not (out / "log.jsonl").exists() or len((out / "log.jsonl").read_text().splitlines()) < step:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.long
def test_a_second_job_is_refused_and_a_kill_lets_the_next_one_go_on_at_once(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    """Also while workers of the killed one are still there."""
    settings = small_detr | EXACT | {"train.max_steps": 10_000, "data.workers": 2}
    settings |= {"train.validate_every": 1e6}  # a validation has workers too
    out = tmp_path / "run"
    command = ["detrkit", "train", "detr_r50", "--data", data, "--out", out, *assigned(settings)]
    words = [sys.executable, "-m", *map(str, command)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as first:
        wait_for_step(out, 3)
        before = json.loads((out / "log.jsonl").read_text().splitlines()[0])
        second = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
        assert second.returncode == 2, second.stderr
        assert f"{out} belongs to a job that is training in it (process {first.pid} on " in second.stderr
        workers = psutil.Process(first.pid).children()
        assert len(workers) == 2
        for worker in workers:
            worker.suspend()
        assert first.poll() is None
        first.kill()
        first.wait()
        assert all(worker.is_running() for worker in workers)
        try:
            events = detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=True)
            started = next(events)
        finally:
            for worker in workers:
                worker.kill()
    assert isinstance(started, Started)
    assert started.step >= 2
    assert json.loads((out / "log.jsonl").read_text().splitlines()[0]) == before
    events.close()
    assert not (out / "run.lock").exists()


def test_a_run_whose_worker_is_killed_says_what_to_lower_and_goes_on(
    tmp_path: Path, data: Path, small_detr: dict[str, object]
) -> None:
    def kill_a_worker(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 3:
            psutil.Process().children()[0].kill()

    settings = small_detr | EXACT | {"train.max_steps": 5, "data.workers": 1, "train.validate_every": 100}
    experiment, out = detrkit.recipe("detr_r50", settings), tmp_path / "run"
    with pytest.raises(DetrkitError, match=r"lower data.workers or data.batch_size.* with --resume"):
        list(detrkit.fit(experiment, data, out, listeners=[kill_a_worker]))
    *_, last = (out / "log.jsonl").read_text().splitlines()
    assert json.loads(last)["event"] == "failed"
    assert "a process that loads images has ended" in json.loads(last)["error"]
    *_, finished = detrkit.fit(experiment, data, out, resume=True)
    assert finished.step == 5
