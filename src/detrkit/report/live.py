"""The page of a run while it trains: a refresh in the browser shows the latest validation."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from detrkit.report.write import write_run_page
from detrkit.training.events import Event, Finished, Interrupted, Started, Validated
from detrkit.training.refusals import Refusals

logger = logging.getLogger(__name__)

SHARE = 1 / 20
"""How much of a run's time its page may cost."""

FIRST = 3.0
"""Seconds that the first page is taken to need, before one was timed."""


class LivePage:
    """Rewrites ``RUN/report.html`` after each validation, and at the end with pictures.

    It is left out where all pages, with the one at hand as long as the last, would take more than a 20th of
    the time since the start; the page of a run that is done is always written. A page that cannot be written
    stops no run: the log says so.
    """

    def __init__(
        self,
        folder: Path,
        write: Callable[[Path, bool], object] = write_run_page,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.folder = folder
        self._write = write
        self._clock = clock
        self._refusals = Refusals(
            folder / "report.html", f"Training goes on; detrkit report {folder} makes the page later."
        )
        self._begun = clock()
        self._spent = 0.0
        self._last = FIRST

    def __call__(self, event: Event) -> None:
        """Write the page where it is time for it, in the main process alone."""
        if not PartialState().is_main_process:
            return
        match event:
            case Started():
                self._begun = self._clock()
            case Validated() | Interrupted() if self._spent + self._last <= SHARE * (
                self._clock() - self._begun
            ):
                self._rewrite(images=False)
            case Finished():
                self._rewrite(images=True)
            case _:
                pass

    def _rewrite(self, images: bool) -> None:
        start = self._clock()
        try:
            self._write(self.folder, images)
        except OSError as error:
            self._refusals.tell(error)
        except Exception:
            logger.warning(
                "%s could not be written; training goes on.", self.folder / "report.html", exc_info=True
            )
        self._last = self._clock() - start
        self._spent += self._last
