"""``detrkit study`` where it writes a note."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from detrkit.cli.options import output_folder
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from detrkit.study.note.chapters.found import Found
    from detrkit.study.note.plan import Plan
    from detrkit.study.note.request import Kind, Request
    from detrkit.training.events import Event


def study_note(
    data: Path,
    recipes: "Sequence[str]",
    plan: str,
    budget: str | None,
    out: Path,
    backbones: str | None,
    seed: int | None,
    yes: bool,
    assignments: "Sequence[str]",
    command: str,
) -> None:
    """Carry a note out, from wherever it is, and say what came of it."""
    from detrkit.study.note.note import carry_out, plan_note, repeat_plan
    from detrkit.study.note.plan import read_plan
    from detrkit.study.note.writing import write_note
    from detrkit.terminal import open_console, words

    tell = Teller(open_console(stderr=True, highlight=False))
    folder = output_folder(out)
    if plan.endswith(".json"):
        decided = {"RECIPE": recipes or None, "--budget": budget, "--backbones": backbones}
        decided |= {"--seed": seed, "--set": assignments or None}
        for name, value in decided.items():
            if value is not None:
                raise DetrkitError(f"{name} is decided by {plan}: leave it out.")
        made = repeat_plan(read_plan(Path(plan)), folder)
    else:
        request = _request(data, recipes, plan, budget, backbones, seed or 0, assignments, command)
        made = plan_note(request, folder, tell)
    if made.asked["plan"] == "full":
        _require_yes(made, yes)
    found = write_note(carry_out(made, data, folder, tell))
    console = open_console()
    console.print(_table(found))
    for sentence in _sentences(found):
        console.print(words(sentence), soft_wrap=True)
    say(f"Wrote {out / 'report.html'}, {out / 'report.md'} and {out / 'results.json'}.")


def _request(
    data: Path,
    recipes: "Sequence[str]",
    plan: str,
    budget: str | None,
    backbones: str | None,
    seed: int,
    assignments: "Sequence[str]",
    command: str,
) -> "Request":
    from detrkit.settings.experiment import parse_overrides
    from detrkit.study.note.planning import data_of
    from detrkit.study.note.request import read_request

    if plan not in ("note", "full"):
        raise DetrkitError(f"--plan {plan} is none: take note, convergence, full, or a note's plan.json.")
    overrides = parse_overrides(list(assignments))
    splits = (str(overrides.get(f"data.{name}", "")) for name in ("train_split", "val_split"))
    images = data_of(data, *splits).train_images
    request = read_request(
        cast("Kind", plan),
        data,
        recipes,
        train_images=images,
        budget=budget,
        seed=seed,
        backbones=backbones,
        assignments=assignments,
        command=command,
    )
    if not recipes:
        named = ", ".join(request.recipes)
        say(
            f"Recipes: {named}, since {data} has {images:,} images to train on; name others to take them.",
            err=True,
        )
    return request


class Teller:
    """Says what a note does, in lines, and shows the progress of each of its runs."""

    def __init__(self, console: "Console") -> None:
        from detrkit.monitoring.progress import ProgressBar

        self._console = console
        self._progress = ProgressBar(console)
        self._in_a_trial = False

    def __call__(self, event: Any) -> None:
        """Hear an event."""
        from detrkit.monitoring.progress import ProgressBar
        from detrkit.study.events import Diverged
        from detrkit.training.events import Started
        from detrkit.tuning.worker import Begun, Ended

        if isinstance(event, Begun | Ended):
            self._in_a_trial = isinstance(event, Begun)
        if isinstance(event, Diverged | Started):
            self._progress.close()
            self._progress = ProgressBar(self._console)
        lines = _lines(event)
        for line in lines or ():
            self._progress.say(line)
        if lines is None and not self._in_a_trial:
            self._progress(cast("Event", event))


def _lines(event: Any) -> list[str] | None:
    """What is said of an event; None of what the progress bar shows."""
    from detrkit.study.events import Diverged, Measuring
    from detrkit.study.note.events import Began, Judging, Planned
    from detrkit.tuning.outcome import told
    from detrkit.tuning.worker import Begun, Ended, Waiting

    match event:
        case Measuring(name):
            return [f"Measuring the pace of {name}."]
        case Planned(plan, done):
            return _plan_lines(plan, done)
        case Began(number, of, title):
            return [f"Step {number} of {of}: {title}."]
        case Judging(name):
            return [f"Looking at {name}."]
        case Begun(number, settings):
            return [f"Trial {number}: {told(settings)}"]
        case Ended(outcome, _):
            ap = "" if outcome.ap is None else f", AP {outcome.ap:.3f} after {outcome.steps} steps"
            return [f"Trial {outcome.number} {outcome.fate}{ap}."]
        case Diverged(_, reason):
            return [f"Diverged: {reason}"]
        case Waiting():
            return []
        case _:
            return _benchmark_lines(event)


def _benchmark_lines(event: Any) -> list[str] | None:
    """What is said of the benchmark; None of what is not of it."""
    from detrkit.benchmark.events import Counting, Detecting, Known, Remembering, Turn

    match event:
        case Counting(name):
            return [f"Counting what {name} is."]
        case Remembering():
            return ["Measuring memory."]
        case Turn(what, 1, turns):
            return [f"Timing {what} in {turns} turns."]
        case Detecting() | Known() | Turn():
            return []
        case _:
            return None


def _plan_lines(plan: "Plan", done: int) -> list[str]:
    runs = ", ".join(f"{name} {run.amount.steps:,}" for name, run in plan.runs.items())
    seconds = next(iter(plan.runs.values())).amount.seconds
    each = "" if seconds is None else f", {seconds:.0f} s each without validations"
    lines = [f"Steps of the runs{each}: {runs}."]
    if not plan.trials.number:
        lines.append("Tuning is left out: the budget has no room for it.")
    elif plan.name_of("tuned") is None:
        lines.append("Tuning is left out: the plan has no run with tuned settings.")
    else:
        lines.append(f"Tuning: {plan.trials.number} trials of {plan.trials.steps:,} steps at most.")
    return [*lines, *([f"{done} steps of the note are over."] if done else [])]


def _table(found: "Found") -> "Table":
    """What a narrow terminal has room for; the report has the rest."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from detrkit.terminal import words

    table = Table("run", box=SIMPLE_HEAD)
    for heading in ("steps", "AP", "95 %", "AP50"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, run in found.trained.items():
        figures = found.results["evaluation"].get(name)
        cells = ["-", "-", "-"]
        if figures is not None:
            interval = f"{figures['interval']['low']:.3f} to {figures['interval']['high']:.3f}"
            cells = [f"{figures['AP']:.3f}", interval, f"{figures['AP50']:.3f}"]
        table.add_row(words(name), str(run["steps"]), *cells)
    return table


def _sentences(found: "Found") -> list[str]:
    from detrkit.study.note.chapters.conclusions import conclusions_of, times_of

    return [one.sentence for one in [*conclusions_of(found), *times_of(found)]]


def _require_yes(plan: "Plan", yes: bool) -> None:
    """Print what a full note costs, and go on only if that is wanted."""
    from detrkit.study.note.cost import GPU, costs_of

    costs = costs_of(plan.runs, plan.trials, plan.data.train_images)
    hours = sum(cost.hours for cost in costs)
    say(f"GPU hours on one {GPU} by docs/scaling.md, as if images were COCO's and every run a DETR:")
    for cost in costs:
        say(f"  {cost.name}: {cost.hours:,.1f} for {cost.epochs:,.0f} epochs")
    say(f"Together about {hours:,.0f} GPU hours, which is {hours / 24:,.1f} days on one GPU.")
    if not yes:
        raise DetrkitError(
            "a full note is begun with --yes alone: add it, or take --plan note with a --budget."
        )
