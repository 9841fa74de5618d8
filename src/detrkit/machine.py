"""The machine that something was computed on, and how much of its memory this process holds."""

import ctypes
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import torch


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


def memory_in_use(device: torch.device) -> int:
    """Bytes: the most that tensors took on a CUDA device so far, or else this process's resident memory.

    No device is asked for it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


def give_back_memory() -> None:
    """Return to the system what was freed, all over the heap.

    glibc by itself returns the end of the heap alone. Where batches differ in size from step to step, and
    oneDNN keeps kernels for each, free pages between them become more from epoch to epoch. Other C libraries
    are left alone.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))


def _processor() -> str:
    """Its model, which Linux tells in a file and others to ``platform``."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
