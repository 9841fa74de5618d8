"""``detrkit study``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import Assignments, output_folder
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from detrkit.study.events import Diverged, Measuring, Planned
    from detrkit.study.results import Results
    from detrkit.training.events import Event


def study(
    data: Annotated[Path, typer.Option(help="The dataset's folder.")],
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE...]",
            help="Recipes' names or .toml files. For a note, the base first; unless given, they follow from "
            "the number of images.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        str,
        typer.Option(
            metavar="PLAN",
            help="note: the whole note within the budget. convergence: which recipe learns soonest? "
            "full: a note whose runs are as long as their recipes say. Or the plan.json of a note, to "
            "repeat it.",
        ),
    ] = "note",
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time of the whole note (unless set, 2h), or training time of each recipe for convergence: "
            "90s, 5m, 2h."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The study's folder. The same command goes on with what is in it.")
    ] = Path("runs/study"),
    backbones: Annotated[
        str | None,
        typer.Option(
            metavar="SMALLER,LARGER", help="For a note. Unless set: resnet50,resnet101.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="For convergence: a learning rate to try; repeatable. Unless set: 1e-4, 3e-4 and 1e-3."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Decides weights, order and augmentation of every run. Unless set: 0."),
    ] = None,
    longer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPE=TIME",
            help="For convergence: train this recipe once more, for this long; repeatable.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Begin a full note, whatever it costs.")] = False,
    assignments: Assignments = None,
) -> None:
    """Write a note on a dataset, from its check to conclusions, or compare how soon recipes learn."""
    command = shlex.join(["detrkit", *sys.argv[1:]])
    if plan != "convergence":
        from detrkit.cli.study_note import study_note

        _refuse("--plan convergence", {"--rate": rate, "--longer": longer})
        study_note(data, recipes or [], plan, budget, out, backbones, seed, yes, assignments or [], command)
        return
    _refuse("a note", {"--backbones": backbones, "--yes": yes})
    if not recipes or budget is None:
        lacking = "--budget" if recipes else "RECIPE..."
        raise DetrkitError(f"{lacking} is missing: --plan convergence wants recipes and --budget.")

    from detrkit.study.convergence import study_convergence
    from detrkit.study.request import DEFAULT_RATES, read_request
    from detrkit.terminal import open_console

    request = read_request(
        recipes,
        data,
        budget,
        rates=rate or DEFAULT_RATES,
        seed=seed or 0,
        longer=longer or (),
        assignments=assignments or (),
        command=command,
    )
    results = study_convergence(
        request, output_folder(out), _teller(open_console(stderr=True, highlight=False))
    )
    open_console().print(_table(results))
    say(f"Wrote {out / 'convergence.md'}, its figure, and {out / 'results.json'}.")


def _refuse(kind: str, options: dict[str, object]) -> None:
    """DetrkitError for an option that another kind of study has."""
    for name, value in options.items():
        if value:
            raise DetrkitError(f"{name} is for {kind}: leave it out.")


def _teller(console: "Console") -> "Callable[[Event | Measuring | Planned | Diverged], None]":
    """Says what the study does, and shows the progress of each of its runs."""
    from detrkit.monitoring.progress import ProgressBar
    from detrkit.study.events import Diverged, Measuring, Planned
    from detrkit.training.events import Started

    progress = ProgressBar(console)

    def tell(event: "Event | Measuring | Planned | Diverged") -> None:
        nonlocal progress
        match event:
            case Measuring():
                progress.say(f"Measuring the pace of {event.recipe}.")
            case Planned():
                for name, steps in event.plan.steps.items():
                    tried = f"{len(event.plan.request.rates)} learning rates for {steps.sweep} steps each"
                    again = f" and once more for {steps.longer}" if steps.longer else ""
                    progress.say(f"{name}: {tried}, the best for {steps.full}{again}.")
            case Diverged():
                progress.close()
                progress.say(f"Diverged, and counts as the worst: {event.reason}")
            case Started():
                progress.close()
                progress = ProgressBar(console)
                progress(event)
            case _:
                progress(event)

    return tell


def _table(results: "Results") -> "Table":
    """What a narrow terminal has room for; the page has the rest."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from detrkit.study.page import name_of
    from detrkit.study.results import LEVELS
    from detrkit.terminal import words

    levels = [] if results.best_ap is None else [f"{level} %" for level in LEVELS]
    table = Table("recipe", box=SIMPLE_HEAD)
    for heading in ("lr", "AP", "AP50", *levels):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results.rows:
        best = row.best
        found = ["-", "-"] if best is None else [f"{best.AP:.3f}", f"{best.AP50:.3f}"]
        reached = [row.reached[level] for level in LEVELS] if levels else []
        times = ["-" if point is None else f"{point.seconds:.0f} s" for point in reached]
        table.add_row(words(name_of(row)), f"{row.outcome.rate:g}", *found, *times)
    if levels:
        table.caption = f"% of the best AP, {results.best_ap:.3f}, and the training that it took"
    return table
