"""The same bits every time: torch's deterministic algorithms, while a run goes on.

All else that a run could differ by is a function of the seed and the step anyway. On a CPU torch's algorithms
give the same bits as they are; on a GPU some add numbers up in any order.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detrkit.errors import DetrkitError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Have torch take deterministic algorithms alone, if ``wanted``, until the end of the block.

    cuBLAS reads its setting in the environment once, before its first product, so it stays there.

    Raises:
        DetrkitError: in the block, where torch has no such algorithm.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn
    chosen = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise DetrkitError(
            f"train.deterministic is true, but torch has no deterministic algorithm for all that this "
            f"detector computes on this device: {reason} Set it to false, or train on a CPU."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
        cudnn.deterministic, cudnn.benchmark = chosen
