import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import detrkit.inference.load
from detrkit import __version__
from detrkit.cli.main import app
from detrkit.errors import AskedToStop

HELP_PAGES = ["--help", "train --help", "evaluate --help", "predict --help", "data --help"]


def test_help_pages_import_nothing_heavy() -> None:
    program = f"""
import sys
from typer.testing import CliRunner
from detrkit.cli.main import app
from detrkit.errors import AskedToStop
for page in {HELP_PAGES}:
    assert CliRunner().invoke(app, page.split()).exit_code == 0, page
print([name for name in ("torch", "torchvision", "numpy", "matplotlib") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_help_is_quick() -> None:
    """Half a second is what it may take on a machine at rest; the limit leaves room for a busy one."""
    command = [sys.executable, "-c", "from detrkit.cli.main import main; main()", "--help"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert b"Usage" in subprocess.run(command, capture_output=True, check=True).stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5, f"the best of 3 took {min(seconds):.2f} s"


@pytest.mark.parametrize("page", HELP_PAGES)
def test_help_pages(page: str) -> None:
    ran = CliRunner().invoke(app, page.split())
    assert ran.exit_code == 0
    assert "Usage" in ran.output


def test_version() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, ran.stdout) == (0, f"detrkit {__version__}\n")


def test_a_fault_of_the_user_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / ("a rather long name of a folder [bold] " * 4)
    ran = CliRunner().invoke(app, ["evaluate", "model.safetensors", "--data", str(missing)])
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert ran.stderr == f"Error: the dataset {missing} is not a folder: name the folder that holds it.\n"


def test_an_unknown_option_is_a_usage_error() -> None:
    ran = CliRunner().invoke(app, ["evaluate", "--unknown"])
    assert ran.exit_code == 2
    assert "Usage" in ran.stderr


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "a.jpg").touch()
    return str(tmp_path / "a.jpg")


def test_an_interruption_ends_with_130(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(detrkit.inference.load, "load", interrupted)
    ran = CliRunner().invoke(app, ["predict", "model.safetensors", photo])
    assert ran.exit_code == 130
    assert "Traceback" not in ran.output


def test_a_training_that_a_signal_ended_amid_other_work_ends_with_its_code(
    photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AskedToStop(signal.SIGTERM)

    monkeypatch.setattr(detrkit.inference.load, "load", asked)
    ran = CliRunner().invoke(app, ["predict", "model.safetensors", photo])
    assert ran.exit_code == 143
    assert "Traceback" not in ran.output


def test_a_bug_keeps_its_traceback(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(detrkit.inference.load, "load", broken)
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(app, ["predict", "model.safetensors", photo], catch_exceptions=False)


@pytest.mark.parametrize(
    ("path", "number"),
    [("some\x1b.txt", errno.ENOSPC), (b"other\xff.txt", errno.EACCES), ("x" * 5000, errno.ENAMETOOLONG)],
)
def test_a_file_that_the_system_refuses_is_one_sentence(
    photo: str, monkeypatch: pytest.MonkeyPatch, path: str | bytes, number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(detrkit.inference.load, "load", refused)
    ran = CliRunner().invoke(app, ["predict", "model.safetensors", photo], catch_exceptions=False)
    assert ran.exit_code == 2
    shown = {5000: "'xxx"}.get(len(path), r"some\x1b.txt" if isinstance(path, str) else r"other\udcff.txt")
    assert ran.stderr.startswith(f"Error: {shown}")
    assert f"cannot be used ({os.strerror(number)}): name another" in ran.stderr
    assert len(ran.stderr) < 200
    assert ran.stderr.count("\n") == 1


def test_a_name_longer_than_the_system_takes(tmp_path: Path) -> None:
    out = tmp_path / f"{'x' * 300}.safetensors"
    ran = CliRunner().invoke(app, ["weights", "convert", "none", str(out)], catch_exceptions=False)
    assert ran.exit_code == 2
    assert "File name too long" in ran.stderr


def test_an_error_of_the_system_without_a_file_keeps_its_traceback(
    photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(detrkit.inference.load, "load", broken)
    with pytest.raises(OSError, match="Bad file"):
        CliRunner().invoke(app, ["predict", "model.safetensors", photo], catch_exceptions=False)


def test_warnings_of_the_library_are_shown(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(*_: object) -> None:
        logging.getLogger("detrkit.somewhere").warning("3 boxes [of 4] were clipped.")
        raise KeyboardInterrupt

    monkeypatch.setattr(detrkit.inference.load, "load", warning)
    ran = CliRunner().invoke(app, ["predict", "model.safetensors", photo])
    assert "WARNING" in ran.stderr
    assert "3 boxes [of 4] were clipped." in ran.stderr
    assert ran.stdout == ""
