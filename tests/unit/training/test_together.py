"""What a process ends with; that many end together is seen in tests/behaviour/test_processes.py."""

from typing import NoReturn

import pytest
import torch.distributed

from detrkit.errors import DetrkitError
from detrkit.settings.training import TrainSettings
from detrkit.training import together
from detrkit.training.prepare import build_accelerator
from detrkit.training.together import ending_together

BROKEN = RuntimeError("[/third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection reset by peer")


def ending(error: Exception) -> tuple[Exception, list[DetrkitError]]:
    """What comes out where ``error`` goes in, and what is told of it."""
    told: list[DetrkitError] = []
    with (
        pytest.raises(type(error) if error is not BROKEN else Exception) as caught,
        ending_together(told.append),
    ):
        raise error
    return caught.value, told


def test_alone_a_fault_is_told_and_a_bug_is_not() -> None:
    fault, bug = DetrkitError("an image is damaged"), KeyError("boxes")
    assert ending(fault) == (fault, [fault])
    assert ending(bug) == (bug, [])
    assert ending(BROKEN) == (BROKEN, [])


def test_where_the_store_is_gone_the_process_tells_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> NoReturn:
        raise torch.distributed.DistNetworkError("Connection reset by peer")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(together, "_get_default_store", gone)
    fault = DetrkitError("an image is damaged")
    assert ending(fault) == (fault, [fault])
    found, told = ending(BROKEN)
    assert "ended without a word" in str(found)
    assert told == [found]


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_detector_that_would_be_spread_over_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(DetrkitError, match=f"ACCELERATE_USE_{name} is set"):
        build_accelerator(TrainSettings())
