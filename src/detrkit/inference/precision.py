"""The number format that a network computes in."""

from contextlib import AbstractContextManager
from typing import Literal, assert_never

import torch

from detrkit.errors import DetrkitError

Precision = Literal["bf16", "fp16", "fp32", "fp64"]


def autocast(device_type: str, precision: Precision) -> AbstractContextManager[object]:
    """A context in which matrix products are made in ``bf16`` or ``fp16``, or else in the weights' format.

    ``device_type`` is that of the weights, such as ``cuda``. ``fp32`` and ``fp64`` are formats of weights:
    there is nothing to cast.
    """
    dtype = product_dtype(device_type, precision)
    return torch.autocast(device_type, dtype, enabled=dtype is not None)


def product_dtype(device_type: str, precision: Precision) -> torch.dtype | None:
    """The format that matrix products are made in, or None where it is the weights'."""
    match precision:
        case "bf16":
            return torch.bfloat16
        case "fp16":
            if device_type == "cpu":
                raise DetrkitError("the precision is fp16, which only a GPU computes in: take bf16 or fp32.")
            return torch.float16
        case "fp32" | "fp64":
            return None
        case _:
            assert_never(precision)
