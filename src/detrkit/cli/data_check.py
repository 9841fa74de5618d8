"""``detrkit data check``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say, say_json
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from detrkit.data.check.examine import Depth, Examined
    from detrkit.data.check.findings import Finding

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset, in any layout that is known.")],
    fix: Annotated[
        Path | None,
        typer.Option(metavar="DST", help="Write a mended copy in COCO's layout, and a list of all changes."),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Decode all images too, which finds damage inside of files.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Look at image files, or at annotations alone.")
    ] = True,
    queries: Annotated[
        int, typer.Option(min=1, help="model.decoder.queries of the detector to be trained.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as json.")] = False,
) -> None:
    """Say what is wrong with a dataset before hours are spent on it: what it does, and how it is mended.

    Image files are opened, compared and looked at as far as their headers and ends; --pixels decodes them.
    The exit code is 0 if there are notes at most, 1 if there is an error or a warning, and 2 if DIR is no
    dataset. With --fix it is that of DIR, not of the copy.
    """
    from detrkit.data.check.examine import examine
    from detrkit.data.check.findings import blocks
    from detrkit.terminal import open_console, words

    depth: Depth = "annotations" if not images else "pixels" if pixels else "headers"
    if fix is not None and not images:
        raise DetrkitError("--fix looks at image files to leave out damaged ones: drop --no-images.")
    console = open_console(stderr=True)
    with console.status(words(f"Checking {folder} ..")):
        examined = examine(folder, depth=depth, queries=queries)
    if as_json:
        say_json(_to_dict(folder, depth, examined))
    else:
        _print(open_console(), folder, depth, examined)
    if fix is not None:
        _write_copy(examined, fix, quiet=as_json)
    if blocks(examined.findings):
        raise typer.Exit(1)


def _to_dict(folder: Path, depth: "Depth", examined: "Examined") -> dict[str, object]:
    from detrkit.data.check.examine import count_images

    images, annotations = count_images(examined.listings)
    return {
        "dataset": str(folder),
        "depth": depth,
        "images": images,
        "annotations": annotations,
        "splits": {
            listing.split: {"images": len(listing.image_ids), "annotations": len(listing.annotation_ids)}
            for listing in examined.listings
        },
        "findings": [finding.to_dict() for finding in examined.findings],
    }


def _print(console: "Console", folder: Path, depth: "Depth", examined: "Examined") -> None:
    from detrkit.data.check.examine import count_images
    from detrkit.terminal import words

    images, annotations = count_images(examined.listings)
    console.print(words(f"{folder}: {images:,} images, {annotations:,} annotations", style="bold"))
    for listing in examined.listings:
        console.print(
            words(
                f"  {listing.split}: {len(listing.image_ids):,} images, {len(listing.annotation_ids):,} "
                f"annotations, {len(listing.categories):,} classes"
            )
        )
    for fault in dict.fromkeys(finding.fault for finding in examined.findings):
        console.print()
        console.print(_paragraph([finding for finding in examined.findings if finding.fault == fault]))
    console.print()
    console.print(words(_verdict(examined.findings, depth), style="bold"))


def _paragraph(findings: "list[Finding]") -> "Table":
    """The findings of one fault as a small table: where, how often, what, examples, effect and fix."""
    from rich.table import Table
    from rich.text import Text

    from detrkit.data.check.findings import EXAMPLES
    from detrkit.terminal import words

    fault = findings[0].fault
    examples = list(dict.fromkeys(one for finding in findings for one in finding.examples))
    if len(examples) > EXAMPLES or any(finding.count > len(finding.examples) for finding in findings):
        examples = [*examples[:EXAMPLES], ".."]
    places = "; ".join(f"{finding.count:,} in {finding.where}" for finding in findings)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    head = Text.assemble(words(fault.name, "bold"), words(f"  {places}"))
    table.add_row(words(fault.severity, _STYLES[fault.severity]), head)
    for label, text in (
        ("found", fault.what),
        ("such as", "\n".join(examples)),
        ("effect", fault.effect),
        ("mend", fault.fix),
    ):
        table.add_row(words(label, "dim"), words(text))
    return table


def _verdict(findings: "list[Finding]", depth: "Depth") -> str:
    numbers = {kind: sum(one.fault.severity == kind for one in findings) for kind in _STYLES}
    looked = {
        "annotations": "image files were not looked at",
        "headers": "images were looked at as far as their headers and ends; --pixels decodes them",
        "pixels": "all images were decoded",
    }[depth]
    counts = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in numbers.items())
    return f"{counts}; {looked}."


def _write_copy(examined: "Examined", target: Path, *, quiet: bool) -> None:
    from detrkit.data.check.repair import write_repaired

    changes = write_repaired(examined, target)
    if not quiet:
        count = f"{len(changes):,} change{'s' * (len(changes) != 1)}"
        say(f"Wrote {target} with {count}, listed in {target / 'changes.txt'}.")
