"""What commands have in common: options of the same name mean the same."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    import torch

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="A .safetensors file or a run folder.", show_default=False)
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per forward pass.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], typer.Option(help="What the network computes in.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; repeatable.")
]
Device = Annotated[
    str | None,
    typer.Option(help="Where to compute: cpu, cuda or cuda:1. Unless set: cuda if there is one."),
]


def chosen_device(name: str | None) -> "torch.device":
    """The device of that name, or the best that the machine has; DetrkitError if it has none of that name."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise DetrkitError(
            f"--device {name}: torch cannot compute there on this machine; take cpu."
        ) from None
    return device


def output_folder(path: Path) -> Path:
    """The folder, made if there was none; DetrkitError if that cannot be, or nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetrkitError(f"the folder {path} cannot be made: {error.strerror}; name another.") from None
    if not os.access(path, os.W_OK):
        raise DetrkitError(f"the folder {path} cannot be written to: name another.")
    return path
