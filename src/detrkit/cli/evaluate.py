"""``detrkit evaluate``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import (
    Assignments,
    BatchSize,
    Checkpoint,
    Device,
    Precision,
    chosen_device,
    output_folder,
)

if TYPE_CHECKING:
    from rich.table import Table

    from detrkit.evaluation.coco import Metrics


def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        Path, typer.Option(help="The dataset's folder, in COCO's, Pascal VOC's or YOLO's layout.")
    ],
    split: Annotated[str, typer.Option(help="Unless set: val2017 or val, whichever the dataset has.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Keep detections.json (COCO results) and metrics.json in this folder.")
    ] = None,
    batch_size: BatchSize = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images; 0 loads them here.")] = 2,
    precision: Precision = "fp32",
    device: Device = None,
    assignments: Assignments = None,
) -> None:
    """Print COCO's metrics of a detector on a split, and the AP of each class."""
    from rich.console import Console
    from rich.progress import track

    from detrkit.data.dataset import describe_enlarged
    from detrkit.data.formats.recognise import choose_split, read_split
    from detrkit.evaluation.coco import evaluate_results, summary_lines, to_results, write_results
    from detrkit.inference.evaluate import detect_split
    from detrkit.inference.load import load
    from detrkit.settings.experiment import parse_overrides

    split = choose_split(data, split, ("val2017", "val"))
    catalog = read_split(data, split)
    detector = load(checkpoint, chosen_device(device), parse_overrides(assignments or []))
    folder = out and output_folder(out)
    for note in describe_enlarged(catalog, "the detector", detector.image_size.short_side):
        typer.echo(f"Note: {note}", err=True)

    found = detect_split(detector, catalog, batch_size=batch_size, workers=workers, precision=precision)
    watched = track(found, f"Evaluating {split}", total=len(catalog), console=Console(stderr=True))
    results = [
        entry for image_id, detections in watched for entry in to_results(catalog, image_id, detections)
    ]
    metrics = evaluate_results(catalog, results)

    typer.echo("\n".join(summary_lines(metrics)))
    Console().print(_class_table(metrics))
    if folder is None:
        typer.echo("Nothing was written; --out DIR keeps the detections and the metrics.")
        return
    write_results(folder / "detections.json", results)
    (folder / "metrics.json").write_text(json.dumps(metrics.to_dict(), indent=2) + "\n", "utf-8")
    typer.echo(f"Wrote {folder / 'detections.json'} and {folder / 'metrics.json'}.")


def _class_table(metrics: "Metrics") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Class", overflow="fold")
    for heading in ("Objects", "AP", "AP50"):
        table.add_column(heading, justify="right")
    for name, figures in metrics.per_class.items():
        table.add_row(escape(name), f"{figures.objects:,}", _figure(figures.AP), _figure(figures.AP50))
    return table


def _figure(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"
