"""Files of others, which are pickles, read by torch's restricted unpickler, which runs nothing.

Of classes, tensors and ``argparse.Namespace`` are let in.
"""

import argparse
import re
from pathlib import Path

import torch

from detrkit.errors import DetrkitError


def unpickle(path: Path) -> object:
    """What the file holds, its tensors on the CPU; DetrkitError where it is damaged or would run code."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 torch.load raises whatever the bytes of a damaged file provoke
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise DetrkitError(
                f"{path} wants to run '{wanted[1]}' when opened, which is refused: a checkpoint may hold "
                "tensors, plain values and an argparse.Namespace."
            ) from None
        reason = (str(error).splitlines() or [""])[0]
        raise DetrkitError(
            f"{path} is not a checkpoint, or cut short: {type(error).__name__}: {reason}"
        ) from None
