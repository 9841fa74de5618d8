"""What is freed goes back to the system."""

import platform

import numpy as np
import psutil
import pytest

from detrkit.machine import give_back_memory

BLOCK = 64 << 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library returns memory by itself")
def test_pages_freed_between_blocks_in_use_are_given_back() -> None:
    blocks = [np.ones(BLOCK, np.uint8) for _ in range(2048)]
    freed = BLOCK * 15 * len(blocks) // 16
    blocks = blocks[::16]
    before = psutil.Process().memory_info().rss
    give_back_memory()
    after = psutil.Process().memory_info().rss
    assert before - after > freed * 0.8
    assert all((block == 1).all() for block in blocks)
