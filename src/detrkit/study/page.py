"""What a study leaves for people and programs: ``results.json``, a page in Markdown, and its figure."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from detrkit.study.agreement import own_settings, shown
from detrkit.study.curve import Point
from detrkit.study.figure import draw_curves
from detrkit.study.outcome import Outcome
from detrkit.study.results import LEVELS, Results, Row, levels

NEVER = "not reached"


def write_page(results: Results, out: Path) -> None:
    """Write ``results.json``, ``convergence.md`` and its figure as ``.svg`` and ``.png`` into ``out``."""
    (out / "results.json").write_text(json.dumps(results.as_dict(), indent=1) + "\n", "utf-8")
    figure = draw_curves(results)
    for kind in ("svg", "png"):
        figure.savefig(out / f"convergence.{kind}", dpi=150)
    (out / "convergence.md").write_text("\n".join(_lines(results)) + "\n", "utf-8", errors="backslashreplace")


def _headings(results: Results) -> list[str]:
    """Those of the table."""
    wanted = {} if results.best_ap is None else levels(results.best_ap)
    reached = [f"{level} % (AP {ap:.3f})" for level, ap in wanted.items()]
    return ["recipe", "lr", "steps", "epochs", "seconds", "best AP", "its AP50", *reached]


def _cells(row: Row, results: Results) -> list[str]:
    """A run's line of the table. Times are of training; a level counts from the validation that found it."""
    run, best = row.outcome, row.best
    line = [
        name_of(row),
        f"{run.rate:g}",
        str(run.steps),
        f"{run.epochs:.1f}",
        f"{run.seconds:.0f}",
        "-" if best is None else f"{best.AP:.3f}",
        "-" if best is None else f"{best.AP50:.3f}",
    ]
    return line + ([] if results.best_ap is None else [_when(row.reached[level]) for level in LEVELS])


def name_of(row: Row) -> str:
    """The recipe's name, and what sets the run apart."""
    return row.recipe + (" (longer)" if row.longer else "") + (" (diverged)" if row.outcome.diverged else "")


def _when(point: Point | None) -> str:
    return NEVER if point is None else f"{point.seconds:.0f} s, {point.epoch:.1f} epochs"


def _lines(results: Results) -> Iterable[str]:
    plan = results.plan
    request, images = plan.request, plan.images
    yield "# Which recipe learns soonest"
    yield ""
    yield f"`{request.command}`"
    yield ""
    yield (
        f"{images.train_images} images to train on, {images.val_images} to validate on, "
        f"{images.images_per_step} per step; the same order of images, seed {request.seed}, and all settings "
        f"but those below. Each recipe has {request.budget:g} seconds of training, in steps of the pace that "
        "was measured here before, with the learning rate that was best in a fifth of that. Validations are "
        "not counted, and a part of the best AP is reached when a validation finds it."
    )
    yield ""
    yield "; ".join(f"{name} {value}" for name, value in plan.machine.items()) + "."
    yield ""
    yield "![AP over seconds of training and over images seen](convergence.svg)"
    yield ""
    yield from _table(_headings(results), [_cells(row, results) for row in results.rows])
    yield ""
    yield "## Learning rates tried"
    yield ""
    yield "AP at the end of a fifth of the steps, and the mean loss of its last tenth."
    yield ""
    rates = [f"{rate:g}" for rate in request.rates]
    yield from _table(
        ["recipe", *rates], [[name, *map(_trial, runs)] for name, runs in results.sweeps.items()]
    )
    yield ""
    yield "## Settings that differ"
    yield ""
    own = own_settings(request.recipes)
    yield from _table(
        ["setting", *request.recipes], [[name, *map(_setting, row)] for name, row in own.items()]
    )


def _trial(run: Outcome) -> str:
    if run.diverged:
        return "diverged"
    loss = "-" if run.loss is None else f"{run.loss:.2f}"
    return f"{run.curve[-1].AP:.3f}, loss {loss}"


def _setting(value: object) -> str:
    return "-" if value is None else shown(value).strip("'")


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
