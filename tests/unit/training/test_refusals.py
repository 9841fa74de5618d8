import errno
import os
from pathlib import Path

import pytest

from detrkit.training.refusals import Refusals

FULL, AWAY = (OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.ENOENT))


def test_each_kind_of_refusal_is_told_once_until_the_file_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals(Path("run"), "Training goes on.")
    refusals.over()
    for trouble in ([FULL, FULL, AWAY, FULL], [FULL]):
        for error in trouble:
            refusals.tell(error)
        refusals.over()
        refusals.over()
    assert [record.getMessage() for record in caplog.records] == [
        "run cannot be written (No space left on device). Training goes on.",
        "run cannot be written (No such file or directory). Training goes on.",
        "run is written again.",
        "run cannot be written (No space left on device). Training goes on.",
        "run is written again.",
    ]
