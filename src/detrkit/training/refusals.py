"""What is said where the disk refuses a file while a run goes on."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class Refusals:
    """Warns that ``path`` could not be written and what is ``at_stake``: once for each kind of error.

    When it is written again, that is said too, and whatever comes after it is told anew.
    """

    def __init__(self, path: Path, at_stake: str) -> None:
        self._path = path
        self._at_stake = at_stake
        self._told: set[int | None] = set()

    def tell(self, error: OSError) -> None:
        """Warn, unless this kind of error was told since the file was last written."""
        if error.errno not in self._told:
            self._told.add(error.errno)
            logger.warning("%s cannot be written (%s). %s", self._path, reason(error), self._at_stake)

    def over(self) -> None:
        """Say that the file is written again, if the last warning said that it is not."""
        if self._told:
            self._told.clear()
            logger.warning("%s is written again.", self._path)


def reason(error: OSError) -> str:
    """The operating system's words."""
    return error.strerror or str(error)
