"""``detrkit train``."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import Assignments, output_folder
from detrkit.cli.say import say
from detrkit.settings.recipes import recipe_names, recipe_summary

if TYPE_CHECKING:
    from detrkit.settings.experiment import Experiment

EPILOG = "\n\n".join(
    [
        "`detrkit train RECIPE --show` lists every setting; `--set optim.lr=2e-4` changes one. Recipes:",
        *(f"{name}: {recipe_summary(name)}" for name in recipe_names()),
    ]
)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name (listed below) or a .toml file.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="The dataset's folder, in COCO's, Pascal VOC's or YOLO's layout.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. Unless set: runs/RECIPE.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="Start from these weights; what does not fit, such as other classes, starts fresh.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in the run folder, from its beginning if nothing of it was saved yet.",
        ),
    ] = False,
    assignments: Assignments = None,
    budget: Annotated[
        str | None, typer.Option(help="Train for this long instead: 90s, 5m, 2h. Turned into steps once.")
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Use algorithms alone that give the same bits every time; sets train.deterministic.",
        ),
    ] = False,
    find_lr: Annotated[
        bool,
        typer.Option(
            "--find-lr", help="Try rising learning rates for 200 steps, draw the loss, suggest one."
        ),
    ] = False,
    show: Annotated[
        bool,
        typer.Option("--show", help="List every setting with its value and meaning, and do nothing else."),
    ] = False,
) -> None:
    """Train a detector and keep the best by validation AP."""
    from detrkit.errors import DetrkitError
    from detrkit.settings.experiment import parse_overrides
    from detrkit.settings.experiment import recipe as read_recipe

    overrides = parse_overrides(assignments or [])
    if budget is not None:
        if "train.max_steps" in overrides:
            raise DetrkitError(
                "--budget and --set train.max_steps both say how long to train: give one of them."
            )
        overrides["train.budget"] = budget
    if deterministic:
        overrides["train.deterministic"] = True
    experiment = read_recipe(recipe, overrides)
    if show:
        _show(experiment)
        return
    if data is None:
        raise DetrkitError("--data is missing: name the dataset's folder, such as --data coco/.")

    out = out or Path("runs") / Path(recipe).stem
    if find_lr:
        from detrkit.cli.find_rate import find_rate_and_say

        find_rate_and_say(experiment, data, out, init)
        return

    if not resume:
        output_folder(out)

    from detrkit.monitoring.doctor.live import LiveDoctor
    from detrkit.monitoring.progress import ProgressBar
    from detrkit.monitoring.recorded import fit
    from detrkit.report.live import LivePage
    from detrkit.training.events import Interrupted
    from detrkit.training.interruption import ignore_signals

    progress = ProgressBar()
    try:
        listeners = [progress, LiveDoctor(out, data, progress.say), LivePage(out)]
        for event in fit(experiment, data, out, resume, init, listeners, recipe):
            if isinstance(event, Interrupted):
                ignore_signals()
                _say_how_to_go_on(progress.say)
                raise typer.Exit(128 + event.signal)  # as a shell tells of a signal
    finally:
        progress.close()


def _say_how_to_go_on(say: Callable[[str], None]) -> None:
    """Say it once, whatever the number of processes."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        launched = ", by the launcher that began it" if PartialState().num_processes > 1 else ""
        say(f"Go on with: {_resuming(sys.argv[1:])}{launched}")


def _resuming(words: list[str]) -> str:
    """The command that goes on with what the words after ``detrkit`` began."""
    return shlex.join(["detrkit", *words, *([] if "--resume" in words else ["--resume"])])


def _show(experiment: "Experiment") -> None:
    from detrkit.settings.section import describe

    for name, value, meaning in describe(experiment):
        say(f"{name} = {value}\n    {meaning}")
