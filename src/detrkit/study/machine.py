"""The machine that a measurement was made on."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from detrkit.errors import DetrkitError

_PACE = ("processor", "cores", "threads", "device")
"""What decides how long a step takes."""


def describe_machine() -> dict[str, str]:
    """What times depend on: processor, cores, threads, device, and the versions of what computes."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "detrkit": version("detrkit"),
    }


def require_same_pace(begun_on: Mapping[str, str]) -> None:
    """DetrkitError where this machine is another than that of a study, whose times it would add to."""
    here = describe_machine()
    for name in _PACE:
        if here[name] != begun_on[name]:
            raise DetrkitError(
                f"the study was begun with {name} = {begun_on[name]}, but here it is {here[name]}, so that "
                "times would not compare: go on as it was begun, or choose another --out."
            )


def _processor() -> str:
    """Its model, which Linux tells in a file and others to ``platform``."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
