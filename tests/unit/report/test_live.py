from collections.abc import Callable
from pathlib import Path

import pytest

from detrkit.evaluation.coco import Metrics
from detrkit.report.live import FIRST, SHARE, LivePage
from detrkit.report.write import write_run_page
from detrkit.training.events import Finished, Interrupted, Validated

METRICS = Metrics(*(0.1 for _ in range(12)), per_class={})


class Clock:
    """A clock that stands still but for training and for writing, which takes ``cost`` seconds."""

    def __init__(self, cost: float) -> None:
        self.now = 0.0
        self.cost = cost
        self.pages: list[float] = []
        self.pictured = False

    def __call__(self) -> float:
        return self.now

    def write(self, folder: Path, images: bool) -> None:
        self.pages.append(self.now)
        self.pictured = images
        self.now += self.cost


def validated() -> Validated:
    return Validated(1, 1.0, METRICS, True, 1.0)


@pytest.mark.parametrize("cost", [0.5, 2.0, 30.0])
def test_pages_never_take_more_than_a_20th_of_the_time_so_far(tmp_path: Path, cost: float) -> None:
    clock = Clock(cost)
    page = LivePage(tmp_path, clock.write, clock)
    for _ in range(200):
        clock.now += 20
        page(validated())
        # the first page's cost is not known before it is written
        assert len(clock.pages) * cost <= max(SHARE * clock.now, cost)
    assert clock.pages[0] >= FIRST / SHARE
    assert len(clock.pages) > 1


def test_a_cheap_page_is_written_after_every_validation(tmp_path: Path) -> None:
    clock = Clock(0.1)
    page = LivePage(tmp_path, clock.write, clock)
    for _ in range(10):
        clock.now += 100
        page(validated())
    assert len(clock.pages) == 10


def test_the_page_of_a_run_that_is_done_is_always_written(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    page = LivePage(tmp_path, clock.write, clock)
    page(validated())
    page(Interrupted(1, Path()))  # which is to end soon
    assert clock.pages == []
    page(Finished(1, 0.1, 1, "", Path()))
    assert len(clock.pages) == 1
    assert clock.pictured


def test_a_page_that_fails_stops_no_run_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(folder: Path, images: bool) -> None:
        raise ZeroDivisionError("a fault in the page")

    LivePage(tmp_path, fail)(Finished(1, 0.1, 1, "", tmp_path))
    assert "report.html could not be written; training goes on" in caplog.text
    assert "a fault in the page" in caplog.text


def test_the_page_lies_in_the_run_folder(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_run_page(run, images=False)
    assert "Report of run" in (run / "report.html").read_text()
    assert [path.name for path in run.glob(".*")] == []
