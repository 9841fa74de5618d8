"""``detrkit tune``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import Assignments, output_folder
from detrkit.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console

    from detrkit.training.events import Event
    from detrkit.tuning.tune import Listener, Measuring, Planned
    from detrkit.tuning.worker import Begun, Ended, Waiting


def tune(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or a .toml file.")],
    data: Annotated[Path, typer.Option(help="The dataset's folder.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of all workers together.")] = 30,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time of all trials together: 30m, 8h. Unless set, a trial is as long as the recipe."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The study's folder; the same command goes on with it. Unless set: runs/tune-RECIPE."
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH",
            help="Search this too: NAME=LOW:HIGH, with :log or :int, or NAME=A,B,C; repeatable. Searched "
            "unless --set fixes them: optim.lr, optim.backbone_lr, optim.weight_decay.",
        ),
    ] = None,
    assignments: Assignments = None,
    init: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Every trial starts from these weights.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="DETRKIT_STORAGE",
            help="The database that workers share: postgresql://.. or mysql://.. Unless set: an SQLite file "
            "in the study's folder.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides what is proposed, and weights and order of all trials.")
    ] = 0,
) -> None:
    """Find settings by many short trainings, of which the hopeless are ended early.

    Any number of workers may run the same command at once, on any machines that share a --storage.
    """
    from detrkit.monitoring.header import without_passwords
    from detrkit.report.page import to_html
    from detrkit.report.tuning import tuning_document
    from detrkit.report.write import write_page
    from detrkit.terminal import open_console
    from detrkit.tuning.outcome import best_of
    from detrkit.tuning.request import read_request
    from detrkit.tuning.tune import tune as find

    request = read_request(
        recipe,
        data,
        trials,
        budget=budget,
        searches=search or (),
        assignments=assignments or (),
        seed=seed,
        init=init,
        command=without_passwords(shlex.join(["detrkit", *sys.argv[1:]])),
    )
    folder = output_folder(out or Path("runs") / f"tune-{Path(recipe).stem}")
    results = find(request, folder, _teller(open_console(stderr=True, highlight=False)), storage)
    write_page(to_html(tuning_document(results)), folder / "report.html")
    best = best_of(results.outcomes)
    assert best is not None  # the study would have said so
    say(f"The best is trial {best.number}, with AP {best.ap:.3f} after {best.steps} steps.")
    say(f"Wrote {folder / 'report.html'}.")
    say(f"Train with its settings: detrkit train {folder / 'best.toml'} --data {data}")


def _teller(console: "Console") -> "Listener":
    """Says what becomes of every trial, in lines, and shows on a terminal how far the one at hand is."""
    from detrkit.terminal import words
    from detrkit.training.events import Stepped
    from detrkit.tuning.outcome import told
    from detrkit.tuning.tune import Measuring, Planned
    from detrkit.tuning.worker import Begun, Ended, Waiting

    status = console.status("")

    def put(line: str) -> None:
        console.print(words(line), soft_wrap=True)

    def tell(event: "Event | Measuring | Planned | Begun | Ended | Waiting") -> None:
        match event:
            case Measuring():
                put("Measuring the pace of training.")
            case Planned(plan, trials):
                known = f" {trials} trials are there already." if trials else ""
                total = f", {plan.total:,} of all trials together" if plan.total else ""
                put(f"A trial has {plan.steps:,} steps{total}.{known}")
            case Begun():
                put(f"Trial {event.number}: {told(event.settings)}")
                status.start()
            case Ended():
                status.stop()
                put(_became(event))
            case Waiting(others):
                put(f"Waiting for trials of other workers: {others}.")
            case Stepped():
                status.update(f"step {event.step}, loss {event.loss:.3f}")
            case _:
                pass

    return tell


def _became(event: "Ended") -> str:
    """What became of a trial, and which is the best so far."""
    outcome, best = event.outcome, event.best
    found = "" if outcome.ap is None else f": AP {outcome.ap:.3f} after {outcome.steps} steps"
    said = f"Trial {outcome.number} {outcome.fate}{found or f': {outcome.reason}'}"
    return said if best is None else f"{said}. Best so far: trial {best.number}, AP {best.ap:.3f}"
