"""Workers in processes of their own, one of which is killed: on PostgreSQL, and on a study's own file."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from detrkit.tuning.joining import open_storage, sqlite_url
from detrkit.tuning.outcome import Outcome, outcomes
from detrkit.tuning.space import read_searches

WORKER = Path(__file__).with_name("worker_process.py")


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a database of PostgreSQL, in a cluster of its own behind a socket in its folder."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or next((str(path / "initdb") for path in reversed(programs)), None)
    if found is None or not Path(found).exists():
        pytest.skip("PostgreSQL is not on this machine: apt-get install --no-install-recommends postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser to be someone else with")
    folder = Path(tempfile.mkdtemp(prefix="detrkit-postgres-", dir="/tmp"))  # a socket's path must be short
    another: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        another = ["runuser", "-u", "postgres", "--"]
    programs_folder, cluster = Path(found).parent, folder / "cluster"

    def call(program: str, *words: str) -> None:
        command = [*another, str(programs_folder / program), "-D", str(cluster), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    call("initdb", "--auth=trust", "--username=detrkit", "--no-sync", "--encoding=UTF8")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    call("pg_ctl", "--wait", "--silent", f"--log={folder / 'log'}", f"--options={options}", "start")
    yield f"postgresql://detrkit@/postgres?host={folder}"
    call("pg_ctl", "--wait", "--silent", "--mode=immediate", "stop")
    shutil.rmtree(folder)


def start(url: str, trials: int, log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, WORKER, url, str(trials), log], env=environment)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what a worker does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the workers take too long"
        time.sleep(0.01)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def begun(log: Path) -> list[int]:
    return [int(line.split()[1]) for line in lines(log) if line.startswith("begin")]


def outcomes_in(url: str) -> list[Outcome]:
    study = optuna.load_study(study_name="study", storage=open_storage(url))
    return outcomes(study.get_trials(), read_searches(["optim.lr=1e-6:1e-1"]))


@pytest.fixture(params=["postgresql", pytest.param("sqlite", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    return request.getfixturevalue("postgres") if request.param == "postgresql" else sqlite_url(tmp_path)


@pytest.mark.slow
def test_two_workers_share_a_study_and_survive_one_that_is_killed(url: str, tmp_path: Path) -> None:
    killed_log, other_log = tmp_path / "killed", tmp_path / "other"
    killed, other = start(url, 14, killed_log), start(url, 14, other_log)
    try:
        until(lambda: len(begun(killed_log)) >= 3 and len(begun(other_log)) >= 3)
        seen = len(begun(killed_log))
        # in the midst of a trial, which has just begun and takes tenths of a second
        until(lambda: len(begun(killed_log)) > seen)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        number = begun(killed_log)[-1]
        assert other.wait(timeout=180) == 0
    finally:
        killed.kill()
        other.kill()
    assert lines(other_log)[-1] == "done"
    assert set(begun(killed_log)).isdisjoint(begun(other_log))
    found = outcomes_in(url)
    assert sorted(begun(killed_log) + begun(other_log)) == [one.number for one in found]
    assert sum(one.fate in ("ended", "pruned") for one in found) == 14
    assert [one.number for one in found if one.fate == "lost"] == [number]
    rates = [one.settings["optim.lr"] for one in found if one.fate != "lost"]
    assert len(set(rates)) == len(rates)


@pytest.mark.slow
def test_a_study_whose_only_worker_was_killed_goes_on_in_its_file(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    log = tmp_path / "log"
    first = start(url, 5, log)
    try:
        until(lambda: "begin 2" in lines(log))
    finally:
        first.kill()
        first.wait()
    before = outcomes_in(url)
    assert start(url, 5, log).wait(timeout=180) == 0
    after = outcomes_in(url)
    assert [one for one in before if one.fate != "running"] == after[:2]
    assert after[2].fate == "lost"
    assert sum(one.fate in ("ended", "pruned") for one in after) == 5
    assert begun(log) == [0, 1, 2, 3, 4, 5]
