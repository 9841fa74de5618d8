"""``detrkit weights``: files of weights, ours and others'."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import Assignments, Checkpoint
from detrkit.cli.say import say
from detrkit.cli.weights_transfer import transfer

if TYPE_CHECKING:
    from detrkit.settings.experiment import ModelSettings

app = typer.Typer(help="Look into files of weights, convert and transfer them.", no_args_is_help=True)


@app.command()
def inspect(checkpoint: Checkpoint, assignments: Assignments = None) -> None:
    """Tell what a file of weights holds: architecture, parameters, categories."""
    from detrkit.inference.load import load, read
    from detrkit.settings.experiment import parse_overrides, to_toml

    overrides = parse_overrides(assignments or [])
    stored = read(checkpoint, overrides)
    detector = load(checkpoint, overrides=overrides)
    used = [category for category in stored.categories if category.used]
    unused = len(stored.categories) - len(used)
    say(f"{checkpoint}")
    say(_described(stored.experiment.model))
    say(f"{sum(parameter.numel() for parameter in detector.parameters()):,} parameters")
    say(f"{len(used)} categories: {', '.join(category.name for category in used)}")
    if unused:
        say(f"{unused} more labels that no object ever had")
    say(f"\n{to_toml(stored.experiment)}")


@app.command()
def convert(
    source: Checkpoint,
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="A .safetensors file (detrkit's), a .pth file (the original DETR's), or else a folder "
            "(transformers').",
            show_default=False,
        ),
    ],
    assignments: Assignments = None,
) -> None:
    """Write the weights of one layout in another; every tensor keeps its bits."""
    from detrkit.errors import DetrkitError
    from detrkit.inference.load import read
    from detrkit.settings.experiment import parse_overrides
    from detrkit.weights import huggingface, official, store

    if destination.exists():
        raise DetrkitError(f"{destination} exists already: name another destination.")
    stored = read(source, parse_overrides(assignments or []))
    destination.parent.mkdir(parents=True, exist_ok=True)
    match destination.suffix:
        case ".safetensors":
            store.write(destination, stored.tensors, stored.experiment, stored.categories)
        case ".pth":
            official.write(destination, stored)
        case "":
            huggingface.write(destination, stored)
        case suffix:
            raise DetrkitError(
                f"{destination}: '{suffix}' is no layout; take .safetensors, .pth or a folder."
            )
    say(f"Wrote {destination}.")


def _described(model: "ModelSettings") -> str:
    from detrkit.settings.model import DetrSettings

    if not isinstance(model, DetrSettings):
        version = getattr(model, "version", 1)
        return f"{model.kind}{' (version 2)' if version == 2 else ''} on {model.backbone.name}"
    dilated = " (DC5)" if model.backbone.dilation else ""
    return (
        f"{model.decoder.kind} decoder with {model.decoder.queries} queries on {model.backbone.name}{dilated}"
    )


app.command()(transfer)
