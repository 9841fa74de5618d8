"""Many processes train as one does, whatever their number, and end together when one of them fails."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

import detrkit
from detrkit.data.formats.recognise import read_split
from detrkit.inference.evaluate import evaluate

TRAIN = [3, 0, 7, 1, 2, 5, 1, 4, 0, 2, 6, 1, 3, 2, 1, 4, 2, 3]
VAL = [1, 2, 0, 1, 3]
"""Objects per image."""
SETTINGS = {
    "train.precision": "fp64",
    "train.trackers": [],
    "train.validate_every": 1_000,
    "data.short_sides": [32],
    "data.max_size": 32,
}
CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
BATCH_NORM: dict[str, Any] = {"model_backbone.norm": "batch"}
WORDLESS = "Another process of this run has ended without a word."


class Ranks:
    """Three datasets, and the folder of runs that were trained by many processes or by one."""

    def __init__(self, folder: Path, write_coco: Callable[..., Path], settings: dict[str, object]) -> None:
        self.folder = folder
        self.settings = settings | SETTINGS
        self.many = write_coco(folder / "data", train=TRAIN, val=VAL)
        self.long = write_coco(folder / "long", train=[1, 2], val=[1] * 60)
        self.few = write_coco(folder / "few", train=[3, 0, 0], val=[2, 1, 0])

    def arguments(self, name: str, data: Path, *options: str, **settings: object) -> list[str]:
        """Of the command that trains the run ``name``."""
        pairs = self.settings | {key.replace("_", ".", 1): value for key, value in settings.items()}
        sets = [part for key, value in pairs.items() for part in ("--set", f"{key}={_toml(value)}")]
        return ["train", "detr_r50", "--data", str(data), "--out", str(self.folder / name), *sets, *options]

    def whole(self, name: str, data: Path, **settings: object) -> Path:
        """The folder of a run that this process trains alone, once."""
        pairs = self.settings | {key.replace("_", ".", 1): value for key, value in settings.items()}
        if (self.folder / name).exists():
            return self.folder / name
        for _ in detrkit.fit(detrkit.recipe("detr_r50", pairs), data, self.folder / name):
            pass
        return self.folder / name


def _toml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(scope="module")
def ranks(
    tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> Ranks:
    return Ranks(tmp_path_factory.mktemp("processes"), write_coco, small_detr)


@pytest.fixture(scope="module")
def forked(ranks: Ranks) -> Ranks:
    """Runs that were trained by 1 to 4 processes, with one import for all: it takes longer than a run."""
    parts = {"data_batch_size": 2, "data_group_by_aspect": True, "train_max_steps": 6}

    def job(name: str, world: int, arguments: list[str], **more: object) -> dict[str, object]:
        return {"told": str(ranks.folder / name), "world": world, "arguments": arguments, **more}

    def faulty(fault: str, at: int) -> dict[str, object]:
        arguments = ranks.arguments(fault, ranks.many, data_batch_size=1, train_max_steps=3)
        return job(fault, 3, arguments, fault=fault, at=at)

    resumed = ranks.arguments("parts", ranks.many, "--resume", **parts)
    jobs = [
        job("two", 2, ranks.arguments("two", ranks.many, data_batch_size=3, train_max_steps=4)),
        job("four", 4, ranks.arguments("four", ranks.few, data_batch_size=1, train_max_steps=3)),
        job("long", 2, ranks.arguments("long run", ranks.long, train_max_steps=1), stop_validating=1),
        job(
            "end", 2, ranks.arguments("end", ranks.few, data_batch_size=1, train_max_steps=1), stop_keeping=0
        ),
        job("by two", 2, ranks.arguments("parts", ranks.many, **parts), stop_after=2),
        job("by three", 3, resumed),
        job("by four", 4, resumed, stop_after=2),
        job("by one", 1, resumed),
        faulty("raise", at=1),
        faulty("kill", at=2),
        faulty("break", at=0),
        faulty("diverge", at=2),
        faulty("hang", at=1),
        job("statistics", 2, ranks.arguments("statistics", ranks.many, train_max_steps=3, **BATCH_NORM)),
    ]
    (ranks.folder / "jobs.json").write_text(json.dumps(jobs))
    script = [sys.executable, str(Path(__file__).parent / "forked_ranks.py"), str(ranks.folder / "jobs.json")]
    done = subprocess.run(script, env=os.environ | CPU, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ranks


def ended(ranks: Ranks, name: str) -> dict[str, Any]:
    return json.loads((ranks.folder / f"{name}.json").read_text())


def told(ranks: Ranks, name: str) -> list[str]:
    """What each process printed."""
    world = len(ended(ranks, name)["codes"])
    return [(ranks.folder / f"{name}.{rank}.txt").read_text() for rank in range(world)]


def validated(ranks: Ranks, name: str) -> list[list[int]]:
    """The ids of the images that each process validated."""
    world = len(ended(ranks, name)["codes"])
    return [json.loads((ranks.folder / f"{name}.{rank}.json").read_text()) for rank in range(world)]


def log(run: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def require_same(run: Path, whole: Path) -> None:
    """The same losses, weights, detections and metrics, to the rounding of float64."""
    expected = [line["loss"] for line in log(whole, "step")]
    assert [line["loss"] for line in log(run, "step")] == pytest.approx(expected, rel=1e-9)
    weights = load_file(whole / "model.safetensors")
    for name, tensor in load_file(run / "model.safetensors").items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-8, atol=1e-8, msg=name)
    found, wanted = (json.loads((one / "evaluation" / "detections.json").read_text()) for one in (run, whole))
    assert [one["image_id"] for one in found] == [one["image_id"] for one in wanted]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], rel=1e-5)
    metrics, wanted_metrics = (
        json.loads((one / "evaluation" / "metrics.json").read_text()) for one in (run, whole)
    )
    assert metrics == wanted_metrics


def test_two_processes_are_one_where_the_last_batch_is_uneven(forked: Ranks) -> None:
    assert ended(forked, "two")["codes"] == [0, 0], told(forked, "two")
    whole = forked.whole("two whole", forked.many, data_batch_size=6, train_max_steps=4)
    require_same(forked.folder / "two", whole)


def test_four_processes_are_one_where_they_are_more_than_images_and_most_have_no_objects(
    forked: Ranks,
) -> None:
    assert ended(forked, "four")["codes"] == [0, 0, 0, 0], told(forked, "four")
    whole = forked.whole("four whole", forked.few, data_batch_size=4, train_max_steps=3)
    require_same(forked.folder / "four", whole)


@pytest.mark.parametrize(("name", "shares"), [("two", [[1, 3, 5], [2, 4]]), ("four", [[1], [2], [3], []])])
def test_every_image_is_validated_once(forked: Ranks, name: str, shares: list[list[int]]) -> None:
    assert validated(forked, name) == shares


def test_one_process_that_is_asked_ends_the_validation_of_all(forked: Ranks) -> None:
    assert ended(forked, "long")["codes"] == [143, 143], told(forked, "long")
    # of 30: the one that is asked leaves at once, the other when they exchange next
    assert [len(share) for share in validated(forked, "long")] == [8, 1]
    state = json.loads((forked.folder / "long run" / "last" / "state.json").read_text())
    assert state["progress"]["validation_due"]


def test_a_process_that_is_asked_when_all_is_done_ends_as_the_others(forked: Ranks) -> None:
    assert ended(forked, "end")["codes"] == [0, 0], told(forked, "end")
    assert [line["step"] for line in log(forked.folder / "end", "finished")] == [1]
    assert json.loads((forked.folder / "end" / "run.json").read_text())["state"] == "finished"


def test_a_run_goes_on_with_the_same_steps_on_other_numbers_of_processes(forked: Ranks) -> None:
    stops = {name: ended(forked, name)["codes"] for name in ("by two", "by four", "by one")}
    assert stops == {"by two": [143, 143], "by four": [143] * 4, "by one": [0]}
    assert len(log(forked.folder / "parts", "step")) == 6
    header = json.loads((forked.folder / "parts" / "run.json").read_text())
    assert header["images_per_step"] == 4
    assert [header["processes"], *(one["processes"] for one in header["resumed"])] == [2, 4, 1]
    assert "data.batch_size is 1 instead of 2" in told(forked, "by four")[0]
    assert "train.accumulate is 2 instead of 1" in told(forked, "by one")[0]
    whole = forked.whole(
        "parts whole",
        forked.many,
        data_batch_size=2,
        train_accumulate=2,
        data_group_by_aspect=True,
        train_max_steps=6,
    )
    require_same(forked.folder / "parts", whole)


def test_processes_that_cannot_share_a_step_are_refused_once(forked: Ranks) -> None:
    assert ended(forked, "by three")["codes"] == [2, 2, 2]
    everything = "".join(told(forked, "by three"))
    assert everything.count("Error: ") == 1
    assert "3 processes cannot share the 4 images of a step evenly" in everything
    assert "(1, 2, 4)" in everything


def test_what_one_process_fails_with_is_told_by_it_alone(forked: Ranks) -> None:
    one, failed, other = told(forked, "raise")
    assert ended(forked, "raise")["codes"] == [2, 2, 2]
    assert "Error: images/7.png is damaged: replace it." in failed
    assert "rror" not in one + other  # neither gloo's nor torch's
    (line,) = log(forked.folder / "raise", "failed")
    assert line["error"] == "process 1: images/7.png is damaged: replace it."


def test_a_loss_that_is_not_finite_is_told_by_the_process_that_knows_its_images(forked: Ranks) -> None:
    assert ended(forked, "diverge")["codes"] == [2, 2, 2]
    assert "Error: the loss is nan in the batch of" in told(forked, "diverge")[2]
    assert "".join(told(forked, "diverge")).count("rror") == 1
    (line,) = log(forked.folder / "diverge", "failed")
    assert line["error"].startswith("process 2: the loss is nan in the batch of")


def test_one_process_that_is_asked_while_it_waits_for_an_image_ends_all_at_once(forked: Ranks) -> None:
    assert ended(forked, "hang")["codes"] == [143] * 3, told(forked, "hang")
    state = json.loads((forked.folder / "hang" / "last" / "state.json").read_text())
    assert state["progress"]["step"] == 1


def test_what_is_judged_has_the_statistics_of_batch_normalisation_that_are_kept(forked: Ranks) -> None:
    """The figures of two processes are those that one finds for the file."""
    run = forked.folder / "statistics"
    assert ended(forked, "statistics")["codes"] == [0, 0], told(forked, "statistics")
    kept = detrkit.load(run / "model.safetensors")
    metrics, results = evaluate(kept, read_split(forked.many, "val"), precision="fp64")
    found = json.loads((run / "evaluation" / "detections.json").read_text())
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in results], abs=1e-6)
    assert json.loads((run / "evaluation" / "metrics.json").read_text()) == metrics.to_dict()


def test_a_bug_of_one_process_is_traced_by_it_alone(forked: Ranks) -> None:
    failed, *others = told(forked, "break")
    assert ended(forked, "break")["codes"] == [1, 2, 2]
    assert "IndexError: index 9 is out of range" in failed
    assert "rror" not in "".join(others)
    assert log(forked.folder / "break", "failed") == []  # the main process knows no more than its traceback


def test_a_killed_process_ends_the_others_soon_with_one_message(forked: Ranks) -> None:
    assert ended(forked, "kill")["codes"] == [2, 2, -signal.SIGKILL]
    assert ended(forked, "kill")["seconds"] < 30
    everything = " ".join("".join(told(forked, "kill")).split())
    assert everything.count(WORDLESS) == 1
    assert "Traceback" not in everything
    assert log(forked.folder / "kill", "failed")[0]["error"].startswith(WORDLESS)


STANDALONE = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "detrkit"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", "detrkit"]


def node(port: int) -> list[str]:
    """What `srun` starts on each of two nodes."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", "7", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    return [
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--nproc-per-node",
        "1",
        *meeting,
        "-m",
        "detrkit",
    ]


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate", "two nodes"])
def test_launchers_start_processes_that_train_as_one(ranks: Ranks, launcher: str) -> None:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port = tried.getsockname()[1]
    launches = {"torchrun": [STANDALONE], "accelerate": [ACCELERATE], "two nodes": [node(port), node(port)]}
    arguments = ranks.arguments(launcher, ranks.many, data_batch_size=3, train_max_steps=4)
    started = [
        subprocess.Popen(
            [sys.executable, *launch, *arguments],
            env=os.environ | CPU,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for launch in launches[launcher]
    ]
    try:
        for process in started:
            told, _ = process.communicate(timeout=500)
            assert process.returncode == 0, told
    finally:
        for process in started:
            process.kill()
    assert json.loads((ranks.folder / launcher / "run.json").read_text())["processes"] == 2
    whole = ranks.whole("two whole", ranks.many, data_batch_size=6, train_max_steps=4)
    require_same(ranks.folder / launcher, whole)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_ends_soon_where_a_process_is_killed(ranks: Ranks, rank: int) -> None:
    run, printed = ranks.folder / f"killed {rank}", ranks.folder / f"killed {rank}.txt"
    arguments = ranks.arguments(run.name, ranks.many, data_batch_size=1, train_max_steps=10_000)
    with printed.open("w") as told:
        launched = subprocess.Popen(
            [sys.executable, *STANDALONE, *arguments], env=os.environ | CPU, stdout=told, stderr=told
        )
    while not (run / "log.jsonl").exists() or len(log(run, "step")) < 2:
        assert launched.poll() is None, printed.read_text()
        time.sleep(0.1)
    processes = {child.environ()["RANK"]: child for child in psutil.Process(launched.pid).children()}
    processes[str(rank)].kill()
    assert launched.wait(timeout=60) == 1
    text = " ".join(printed.read_text().split())
    assert text.count(WORDLESS) == 1
    assert f"rank : {rank} (local_rank: {rank}) exitcode : -9" in text
    assert "[rank" not in text  # what torch puts before the tracebacks of processes
