"""``detrkit weights transfer``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrkit.cli.options import Assignments, Checkpoint
from detrkit.cli.say import say

if TYPE_CHECKING:
    from detrkit.weights.store import Stored


def transfer(
    source: Checkpoint,
    to: Annotated[
        str, typer.Option(metavar="RECIPE", help="The architecture: a recipe's name or a .toml file.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DST", help="The .safetensors file to write; DST's .json accounts for all tensors."
        ),
    ],
    plan: Annotated[
        Literal["grow", "imagenet"],
        typer.Option(
            help="grow: the source's backbone, whose new blocks start as identities. imagenet: the backbone "
            "of model.backbone.weights, and all else from the source."
        ),
    ] = "grow",
    assignments: Assignments = None,
) -> None:
    """Bring weights into another architecture, such as from ResNet-50 to ResNet-101."""
    import json

    from detrkit.inference.load import read
    from detrkit.inference.transferred import transferred
    from detrkit.monitoring.progress import origins_table
    from detrkit.settings.experiment import parse_overrides, recipe
    from detrkit.terminal import open_console
    from detrkit.weights import store
    from detrkit.weights.architecture import differences

    report = _free(out)
    experiment = recipe(to, parse_overrides(assignments or []))
    origin = read(source)
    found = transferred(origin, experiment, plan)
    target = store.Stored(experiment, origin.categories, found.tensors)
    changed = differences(origin.experiment, experiment)
    open_console().print(origins_table(found.rows))
    for name, there, here in changed:
        say(f"{name} was {there} and is {here}.")
    say(_likeness(origin, target))

    out.parent.mkdir(parents=True, exist_ok=True)
    store.write(out, *target[2:], *target[:2])
    told = {
        "source": str(source),
        "plan": plan,
        "settings": {name: {"there": there, "here": here} for name, there, here in changed},
        "tensors": [row._asdict() for row in found.rows],
    }
    report.write_text(json.dumps(told, indent=1), "utf-8")
    say(f"Wrote {out}, and {report}, which accounts for every tensor of both sides.")


def _free(out: Path) -> Path:
    """Where the report goes, if nothing is there yet."""
    from detrkit.errors import DetrkitError

    if out.suffix != ".safetensors":
        raise DetrkitError(f"--out {out} must be a .safetensors file.")
    report = out.with_suffix(".json")
    for path in (out, report):
        if path.exists():
            raise DetrkitError(f"{path} exists already: name another --out.")
    return report


def _likeness(source: "Stored", target: "Stored") -> str:
    from detrkit.inference.transferred import largest_difference

    apart = largest_difference(source, target)
    if apart is None:
        return "The two networks' answers cannot be compared: they have not as many queries or classes."
    return (
        f"On an image of noise, the two networks' answers differ by at most {apart[0]:.1e} in their logits "
        f"and {apart[1]:.1e} in their boxes."
    )
