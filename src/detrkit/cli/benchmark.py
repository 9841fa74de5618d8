"""``detrkit benchmark``."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import Assignments, Device, chosen_device, output_folder
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from rich.status import Status

    from detrkit.benchmark.events import Listener, Progress
    from detrkit.benchmark.results import Precision


def benchmark(
    entrants: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]ENTRANT...",
            help="Run folders, weights, recipes (random weights: costs alone), .json files of COCO results "
            "(accuracy alone), .onnx files (speed alone). The first is what others are compared with.",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Option(help="The dataset's folder.")],
    split: Annotated[str, typer.Option(help="Unless set: val2017 or val, whichever the dataset has.")] = "",
    out: Annotated[
        Path,
        typer.Option(help="The folder of what is found. The same command detects nothing twice."),
    ] = Path("runs/benchmark"),
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEIGHTxWIDTH", help="Count multiply-adds at this size; repeatable. Unless set: 800x1137."
        ),
    ] = None,
    turns: Annotated[int, typer.Option(min=0, help="Turns that are timed; 0 times nothing.")] = 7,
    images: Annotated[int, typer.Option(min=1, help="Images of a turn, one at a time.")] = 4,
    batches: Annotated[
        str, typer.Option(metavar="A,B..", help="Batches that throughput is measured with.")
    ] = "1,2,4,8",
    training_batch: Annotated[
        int, typer.Option(min=0, help="Images of a training step that is timed; 0 times none.")
    ] = 2,
    precision: Annotated[
        str, typer.Option(metavar="A,B..", help="What is timed, of fp32 and bf16. Accuracy is of fp32.")
    ] = "fp32,bf16",
    memory: Annotated[bool, typer.Option("--memory/--without-memory", help="Measure peak memory.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images for accuracy.")] = 2,
    device: Device = None,
    assignments: Assignments = None,
) -> None:
    """Compare detectors fairly: the same images, evaluator, machine and hour for all.

    Writes report.html, report.md and results.json.
    """
    from detrkit.benchmark.benchmark import benchmark as measure
    from detrkit.benchmark.entrant import read_entrants
    from detrkit.benchmark.results import Effort
    from detrkit.cli.benchmark_lines import notes, tables
    from detrkit.report.benchmark import benchmark_document
    from detrkit.report.markdown import write_markdown
    from detrkit.report.page import to_html
    from detrkit.report.write import write_page
    from detrkit.settings.experiment import parse_overrides
    from detrkit.terminal import open_console, words

    effort = Effort(
        turns=turns,
        images=images,
        batches=_batches(batches),
        sizes=tuple(map(_size, size or ["800x1137"])),
        training_batch=training_batch,
        precisions=_precisions(precision),
        memory=memory,
    )
    named, folder, overrides = read_entrants(entrants), output_folder(out), parse_overrides(assignments or [])
    with open_console(stderr=True, highlight=False).status("") as status:
        found = measure(
            named,
            data,
            split,
            folder,
            _teller(status),
            effort=effort,
            overrides=overrides,
            device=chosen_device(device),
            workers=workers,
            command=shlex.join(["detrkit", *sys.argv[1:]]),
        )
    document = benchmark_document(found)
    write_page(to_html(document), out / "report.html")
    write_markdown(document, out / "report.md")
    console = open_console(highlight=False, emoji=False)
    for table in tables(found):
        console.print(table)
    for note in notes(found):
        console.print(words(note))
    say(f"Wrote {out / 'report.html'}, {out / 'report.md'} and {out / 'results.json'}.")


def _batches(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) for part in parts):
        raise DetrkitError(f"--batches {text}: expected are whole numbers above 0, such as 1,2,4,8.")
    return tuple(sorted({int(part) for part in parts}))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if found is None:
        raise DetrkitError(f"--size {text}: expected is HEIGHTxWIDTH in pixels, such as 800x1137.")
    return int(found[1]), int(found[2])


def _precisions(text: str) -> "tuple[Precision, ...]":
    chosen = [part.strip() for part in text.split(",")]
    known: tuple[Precision, ...] = ("fp32", "bf16")
    found: list[Precision] = [one for one in known if one in chosen]
    if not found or set(chosen) - set(found):
        raise DetrkitError(f"--precision {text}: expected are fp32, bf16 or both, separated by a comma.")
    return tuple(found)


def _teller(status: "Status") -> "Listener":
    """Says in lines what is known, and on a terminal what is being done."""
    from detrkit.benchmark.events import Counting, Detecting, Known, Remembering, Turn
    from detrkit.terminal import words

    def tell(progress: "Progress") -> None:
        match progress:
            case Detecting(name, done, images):
                status.update(words(f"{name} detects: {done:,} of {images:,} images"))
            case Known(name, ap, kept):
                how = " (from detections that were there)" if kept else ""
                status.console.print(words(f"{name}: AP {ap:.3f}{how}"))
            case Counting(name):
                status.update(words(f"{name}: multiply-adds"))
            case Remembering():
                status.update("Memory")
            case Turn(what, number, turns):
                status.update(words(f"{what}: turn {number} of {turns}"))

    return tell
