"""``detrkit study``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrkit.cli.options import Assignments, output_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from detrkit.study.events import Diverged, Measuring, Planned
    from detrkit.study.results import Results
    from detrkit.training.events import Event


def study(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Recipes' names or .toml files.")],
    plan: Annotated[Literal["convergence"], typer.Option(help="convergence: which recipe learns soonest?")],
    data: Annotated[Path, typer.Option(help="The dataset's folder.")],
    budget: Annotated[str, typer.Option(help="Training time of each recipe: 90s, 5m, 2h.")],
    out: Annotated[
        Path, typer.Option(help="The study's folder. The same command goes on with what is in it.")
    ] = Path("runs/study"),
    rate: Annotated[
        list[float] | None,
        typer.Option(help="A learning rate to try; repeatable. Unless set: 1e-4, 3e-4 and 1e-3."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides weights, order and augmentation of every run.")
    ] = 0,
    longer: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPE=TIME", help="Train this recipe once more, for this long; repeatable."),
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Compare recipes on one dataset, each with the best of the same learning rates and the same time."""
    from rich.console import Console

    from detrkit.study.convergence import study_convergence
    from detrkit.study.request import DEFAULT_RATES, read_request

    request = read_request(
        recipes,
        data,
        budget,
        rates=rate or DEFAULT_RATES,
        seed=seed,
        longer=longer or (),
        assignments=assignments or (),
        command=shlex.join(["detrkit", *sys.argv[1:]]),
    )
    results = study_convergence(request, output_folder(out), _teller())
    Console().print(_table(results))
    typer.echo(f"Wrote {out / 'convergence.md'}, its figure, and {out / 'results.json'}.")


def _teller() -> "Callable[[Event | Measuring | Planned | Diverged], None]":
    """Says what the study does, and shows the progress of each of its runs."""
    from detrkit.monitoring.progress import ProgressBar
    from detrkit.study.events import Diverged, Measuring, Planned
    from detrkit.training.events import Started

    progress = ProgressBar()

    def tell(event: "Event | Measuring | Planned | Diverged") -> None:
        nonlocal progress
        match event:
            case Measuring():
                progress.console.print(f"Measuring the pace of {event.recipe}.")
            case Planned():
                for name, steps in event.plan.steps.items():
                    tried = f"{len(event.plan.request.rates)} learning rates for {steps.sweep} steps each"
                    again = f" and once more for {steps.longer}" if steps.longer else ""
                    progress.console.print(f"{name}: {tried}, the best for {steps.full}{again}.")
            case Diverged():
                progress.close()
                progress.console.print(f"Diverged, and counts as the worst: {event.reason}", soft_wrap=True)
            case Started():
                progress.close()
                progress = ProgressBar()
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

    levels = [] if results.best_ap is None else [f"{level} %" for level in LEVELS]
    table = Table("recipe", box=SIMPLE_HEAD)
    for heading in ("lr", "AP", "AP50", *levels):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results.rows:
        best = row.best
        found = ["-", "-"] if best is None else [f"{best.AP:.3f}", f"{best.AP50:.3f}"]
        reached = [row.reached[level] for level in LEVELS] if levels else []
        times = ["-" if point is None else f"{point.seconds:.0f} s" for point in reached]
        table.add_row(name_of(row), f"{row.outcome.rate:g}", *found, *times)
    if levels:
        table.caption = f"% of the best AP, {results.best_ap:.3f}, and the training that it took"
    return table
