"""What calls take of memory, measured while no call can take more than some gigabytes."""

import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def grown_by() -> Callable[[Callable[[], object]], int]:
    """``grown_by(call)`` is by how many bytes the memory of this process grew at most during the call."""

    def grown_by(call: Callable[[], object]) -> int:
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 4 * 2**30, limits[1]))
        try:
            call()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
        return _status("VmHWM") - before

    return grown_by


def _status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])
