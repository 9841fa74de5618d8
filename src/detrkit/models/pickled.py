"""Files of others, which are pickles, read by torch's restricted unpickler, which runs nothing.

Of classes, tensors and ``argparse.Namespace`` are let in. A file can also claim more than it holds: archives
that unpack to far more, and tensors that repeat one number without end. Neither is let in, so that a file
takes no more memory than a few times its size.
"""

import argparse
import re
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor
from torch.nn import Parameter

from detrkit.errors import DetrkitError, shown


def unpickle(path: Path) -> object:
    """What the file holds, its tensors on the CPU; DetrkitError where it is damaged or would run code."""
    try:
        _require_uncompressed(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DetrkitError:
        raise
    except Exception as error:  # noqa: BLE001 torch.load raises whatever the bytes of a damaged file provoke
        if wanted := re.search(r"GLOBAL (\S+)", str(error)):
            raise DetrkitError(
                f"{path} wants to run {shown(wanted[1])} when opened, which is refused: a checkpoint may "
                "hold tensors, plain values and an argparse.Namespace."
            ) from None
        # without torch's own words, which advise to let the file run what it likes
        raise DetrkitError(
            f"{path} is not a readable file of weights, or cut short ({type(error).__name__}): fetch it "
            "again."
        ) from None


def require_tensors(found: object, path: Path) -> dict[str, Tensor]:
    """The state dict that ``found`` is, whose tensors are dense, not empty, and as large as the file says.

    Raises:
        DetrkitError: where it is none, or tensors would take more memory than ``path`` holds bytes.
    """
    if not isinstance(found, dict):
        raise DetrkitError(f"{path} does not hold a state dict of tensors.")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise DetrkitError(f"{path} does not hold a state dict of tensors: it has {shown(name)}.")
        if not _is_held(tensor):
            raise DetrkitError(
                f"{path} has a tensor {shown(name)} of shape {tuple(tensor.shape)} without its numbers: a "
                "checkpoint needs dense tensors that are not empty and have all of theirs."
            )
    claimed, size = sum(tensor.nbytes for tensor in found.values()), path.stat().st_size
    if claimed > size:
        raise DetrkitError(f"{path} claims {claimed:,} bytes of tensors, but the file has {size:,} in all.")
    return found


def _require_uncompressed(path: Path) -> None:
    """Refuse an archive that unpacks to more than its size, which those of torch never do."""
    with path.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":
            return
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError) as error:
        raise DetrkitError(f"{path} is not a readable file of weights, or cut short: {error}.") from None
    if any(member.compress_type != ZIP_STORED for member in members) or (
        sum(member.file_size for member in members) > path.stat().st_size
    ):
        raise DetrkitError(
            f"{path} is an archive that unpacks to more than its size, which is refused: torch.save does not "
            "compress."
        )


def _is_held(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor are there, each once."""
    if type(tensor) not in (Tensor, Parameter) or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.device.type == "cpu" and 0 < tensor.nbytes <= tensor.untyped_storage().nbytes()
