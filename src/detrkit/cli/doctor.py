"""``detrkit doctor``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from detrkit.monitoring.doctor.ailment import Ailment
    from detrkit.monitoring.doctor.facts import Facts

_STYLES = {"cause": "bold red", "symptom": "yellow", "cost": "cyan"}


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="The dataset's folder, unless it is still where the run found it.")
    ] = None,
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Open no image and ask nothing of the model: quicker.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ailments as json.")] = False,
) -> None:
    """Say why AP stays low: what is wrong with a run, the most likely cause first, and what to try next.

    The log, the detections of the best validation and a few images of both splits are looked at. The exit
    code is 0 if nothing is found, 1 if something is, and 2 if RUN is no run.
    """
    from detrkit.monitoring.doctor.diagnose import diagnose
    from detrkit.monitoring.doctor.gather import gather
    from detrkit.terminal import open_console, words

    with open_console(stderr=True).status(words(f"Examining {run} ..")):
        facts = gather(run, data, images=not without_images)
        found = diagnose(facts)
    if as_json:
        ailments = [ailment.to_dict() for ailment in found]
        told = {"run": str(run), "ailments": ailments, "missing": facts.missing}
        say_json(told)
    else:
        _print(open_console(), run, facts, found)
    if found:
        raise typer.Exit(1)


def _print(console: "Console", run: Path, facts: "Facts", found: "list[Ailment]") -> None:
    from detrkit.terminal import words

    course = facts.course
    done = course.stretches[-1].last if course.stretches else 0
    head = f"{run}: {facts.state} after {done:,} of {course.steps:,} steps, best AP {course.best_ap:.3f}"
    console.print(words(head, style="bold"))
    for ailment in found:
        console.print()
        console.print(_paragraph(ailment))
    for sentence in facts.missing:
        console.print(words(f"\nNot known: {sentence}", style="dim"))
    if not found:
        console.print(words("\nNothing is wrong as far as can be seen.", style="bold"))


def _paragraph(ailment: "Ailment") -> "Table":
    """The ailment as a small table: kind, name and confidence, what it is, evidence and what to try."""
    from rich.table import Table
    from rich.text import Text

    from detrkit.terminal import words

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    head = Text.assemble(words(ailment.name, "bold"), f"  confidence {ailment.confidence:.0%}")
    table.add_row(words(ailment.kind, _STYLES[ailment.kind]), head)
    for label, text in (("found", ailment.what), ("because", ailment.evidence), ("try", ailment.remedy)):
        table.add_row(words(label, "dim"), words(text))
    return table
