"""Who may train in a run folder; that a second job is refused is seen in tests/behaviour/test_kills.py."""

import errno
import fcntl
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import detrkit
from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.training.claim import Claim
from detrkit.training.events import Stepped

HOLDER = """
import sys, time
from pathlib import Path
from typing import Any
from detrkit.training.claim import Claim
with Claim(Path(sys.argv[1])) as claim:
    claim.take()
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process, which has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"taken\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_that_another_process_has_is_refused_until_that_is_killed(
    tmp_path: Path, holder: subprocess.Popen, caplog: pytest.LogCaptureFixture
) -> None:
    with Claim(tmp_path) as claim:
        with pytest.raises(DetrkitError) as caught:
            claim.take()
        assert f"{tmp_path} belongs to a job that is training in it (process {holder.pid} on " in str(
            caught.value
        )
        assert (tmp_path / "run.lock").exists()  # it is not the refused one's to remove
        holder.kill()
        holder.wait()
        assert (tmp_path / "run.lock").exists()
        claim.take()
        claim.take()
    assert list(tmp_path.iterdir()) == []
    assert not caplog.records


def test_a_claim_that_was_not_taken_leaves_all_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    with Claim(tmp_path):
        pass
    assert (tmp_path / "run.lock").exists()


def test_a_fork_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    with Claim(tmp_path) as mine:
        mine.take()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reading, 1)
            os._exit(0)
        mine.__exit__(None, None, None)  # as far as the lock goes, what the end of the process does
        found = subprocess.run(
            [sys.executable, "-c", HOLDER.replace("60", "0"), tmp_path], capture_output=True, check=False
        )
        os.write(writing, b"x")
        os.waitpid(child, 0)
    assert found.stdout == b"taken\n", found.stderr


def test_a_lock_whose_file_was_removed_meanwhile_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another job ends between the two calls of this one."""
    lock, path = fcntl.lockf, tmp_path / "run.lock"
    times = iter([True, False])

    def locked(descriptor: int, how: int) -> None:
        if next(times):
            path.unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", locked)
    with Claim(tmp_path) as claim:
        claim.take()
        found = subprocess.run(
            [sys.executable, "-c", HOLDER, tmp_path], capture_output=True, text=True, check=False
        )
        assert f"belongs to a job that is training in it (process {os.getpid()} on " in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_a_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with Claim(tmp_path) as claim:
        claim.take()
        assert list(tmp_path.iterdir()) == []
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{tmp_path / 'run.lock'} cannot be locked (No locks available)" in said.getMessage()


def test_a_link_leads_to_no_file_of_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "run.lock").symlink_to(other)
    with Claim(tmp_path) as claim:
        claim.take()
    assert other.read_text() == "kept"
    assert "cannot be locked" in caplog.text


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_is_refused_a_folder_that_another_process_has(
    tmp_path: Path,
    holder: subprocess.Popen,
    write_coco: Callable[..., Path],
    small_detr: dict[str, object],
    resume: bool,
) -> None:
    """As a new run, also where the other one began after a look at the folder."""
    data = write_coco(tmp_path / "data", train=[1], val=[1])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DetrkitError, match=f"process {holder.pid} on"):
        next(detrkit.fit(detrkit.recipe("detr_r50", small_detr), data, tmp_path, resume))
    assert sorted(tmp_path.iterdir()) == before


def test_a_new_run_is_refused_where_another_has_begun_since_it_looked(
    tmp_path: Path,
    write_coco: Callable[..., Path],
    small_detr: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, out = write_coco(tmp_path / "data", train=[1], val=[1]), tmp_path / "run"
    experiment = detrkit.recipe("detr_r50", small_detr)

    def build_as_another_begins(*given: Any) -> Detector:
        monkeypatch.undo()
        events = detrkit.fit(experiment, data, out)
        next(events)
        events.close()
        return build_detector(*given)

    monkeypatch.setattr("detrkit.training.prepare.build_detector", build_as_another_begins)
    with pytest.raises(DetrkitError, match="already holds a run"):
        next(detrkit.fit(experiment, data, out))


def move_and_copy(folder: Path) -> None:
    """The folder goes elsewhere with its lock, and another with the same content has its name."""
    moved = folder.with_name("moved")
    folder.rename(moved)
    shutil.copytree(moved, folder)


def refused_elsewhere(out: Path) -> bool:
    """Whether another process is refused the folder, since this one has it."""
    other = subprocess.run(
        [sys.executable, "-c", HOLDER, str(out)], capture_output=True, text=True, check=False
    )
    return f"belongs to a job that is training in it (process {os.getpid()} on" in other.stderr


def test_a_lock_follows_the_name_of_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with Claim(out) as claim:
        claim.hold()  # nothing was taken yet
        claim.take()
        claim.hold()
        move_and_copy(out)
        claim.hold()
        assert not claim.lost
        assert refused_elsewhere(out)
        shutil.rmtree(out)
        claim.hold()  # a folder that is away may come back
        assert not out.exists()
    assert not claim.lost


def test_a_lock_whose_file_is_removed_is_taken_again(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        claim.take()
        (tmp_path / "run.lock").unlink()
        claim.hold()
        assert refused_elsewhere(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_does_not_answer_takes_no_folder_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def stat(path: Path, **named: Any) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    with Claim(tmp_path) as claim:
        claim.take()
        with monkeypatch.context() as away:
            away.setattr(Path, "stat", stat)
            claim.hold()
        assert not claim.lost
        assert refused_elsewhere(tmp_path)


@pytest.mark.parametrize("lock", [None, "", "process 1 on elsewhere\n0123456789abcdef"])
def test_a_folder_of_another_run_is_not_taken_for_its_name(tmp_path: Path, lock: str | None) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with Claim(out) as claim:
        claim.take()
        out.rename(tmp_path / "moved")
        out.mkdir()
        if lock is not None:
            (out / "run.lock").write_text(lock)
        before = {path: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(DetrkitError, match="is no longer the folder of this run"):
            claim.hold()
        assert claim.lost
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_run_whose_folder_another_job_has_by_now_ends_and_writes_nothing(
    tmp_path: Path, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> None:
    data, out = write_coco(tmp_path / "data", train=[1], val=[1]), tmp_path / "run"
    settings = small_detr | {"train.max_steps": 3, "train.checkpoint_every": 1, "train.trackers": []}
    events = detrkit.fit(detrkit.recipe("detr_r50", settings), data, out)
    while not isinstance(next(events), Stepped):
        pass
    move_and_copy(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    before.pop(out / "run.lock")
    other = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(other, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(DetrkitError, match="is no longer the folder of this run"):
            list(events)
        after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        after.pop(out / "run.lock")
        holder.kill()
    assert after == before
