"""``detrkit evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.options import (
    Assignments,
    BatchSize,
    Device,
    Precision,
    chosen_device,
    output_folder,
)
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from detrkit.catalog import Catalog
    from detrkit.detectors.detector import Detector
    from detrkit.evaluation.coco import Result


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="CKPT", help="A .safetensors file or a run folder.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The dataset's folder, in COCO's, Pascal VOC's or YOLO's layout.")
    ] = None,
    split: Annotated[str, typer.Option(help="Unless set: val2017 or val, whichever the dataset has.")] = "",
    detections: Annotated[
        Path | None, typer.Option(help="Judge this file of COCO results, instead of a checkpoint.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="The file of COCO annotations that --detections are judged by.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep detections.json (COCO results), metrics.json, analysis.json and "
            "precision_recall.npz in this folder."
        ),
    ] = None,
    iou: Annotated[
        str,
        typer.Option(
            metavar="A,B..", help="The IoUs of a right detection. Unless set, COCO's 0.50, 0.55 .. 0.95."
        ),
    ] = "",
    max_detections: Annotated[
        int, typer.Option(min=1, help="How many detections of a class count in an image.")
    ] = 100,
    classes: Annotated[
        str, typer.Option(metavar="A,B..", help="Judge these classes only. Unless set, all.")
    ] = "",
    batch_size: BatchSize = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images; 0 loads them here.")] = 2,
    precision: Precision = "fp32",
    device: Device = None,
    assignments: Assignments = None,
) -> None:
    """Judge a checkpoint on a split, or any tool's detections: COCO's metrics, and what goes wrong.

    Either CKPT --data DIR, or --detections FILE --annotations FILE.
    """
    changed = {
        "CKPT": checkpoint,
        "--data": data,
        "--split": split,
        "--batch-size": batch_size != 1,
        "--workers": workers != 2,
        "--precision": precision != "fp32",
        "--device": device,
        "--set": assignments,
    }
    _require_one_source(changed, {"--detections": detections, "--annotations": annotations})
    ious, limits = _ious(iou), _limits(max_detections)
    named = _listed(classes)
    if detections and annotations:
        catalog, results = _read(detections, annotations)
        folder = out and output_folder(out)
    else:
        assert checkpoint and data  # noqa: PT018  # one of the two sources is whole
        catalog = _catalog(data, split)
        detector = _load(checkpoint, device, assignments)
        _say_enlarged(catalog, detector)
        folder = out and output_folder(out)
        results = _detect(detector, catalog, batch_size, workers, precision)
    _judge(catalog, results, ious, limits, named, folder)


def _judge(
    catalog: "Catalog",
    results: "list[Result]",
    ious: tuple[float, ...],
    limits: tuple[int, ...],
    named: list[str],
    folder: Path | None,
) -> None:
    from detrkit.cli.evaluate_lines import analysis_lines, class_table, deviations
    from detrkit.evaluation.analysis import analyse, write
    from detrkit.evaluation.classes import of_classes
    from detrkit.evaluation.coco import summary_lines, write_results
    from detrkit.evaluation.judged import judge
    from detrkit.terminal import open_console

    num_classes = len(catalog.categories)
    if named:
        catalog, results = of_classes(catalog, results, named)
    judged = judge(catalog, results, ious=ious, max_detections=limits)
    say("\n".join(summary_lines(judged.metrics, ious, limits)))
    for line in deviations(judged, num_classes):
        say(line)
    analysis = analyse(judged)
    console = open_console(emoji=False)
    console.width = max(console.width, 0 if console.is_terminal else 120)
    console.print(class_table(judged.metrics, analysis))
    say("\n".join(analysis_lines(analysis)))
    if folder is None:
        say("Nothing was written; --out DIR keeps the detections and all figures.")
        return
    write_results(folder / "detections.json", results)
    write(folder, judged, analysis)
    say(f"Wrote detections.json, metrics.json, analysis.json and precision_recall.npz in {folder}.")


def _require_one_source(of_a_checkpoint: dict[str, object], of_a_file: dict[str, object]) -> None:
    """Refuse options of a checkpoint beside those of a file of detections, and half of either."""
    given, others = ([name for name, value in all_.items() if value] for all_ in (of_a_file, of_a_checkpoint))
    if given and others:
        raise DetrkitError(
            f"{others[0]} and {given[0]} exclude each other: judge a checkpoint (CKPT --data DIR) or a file "
            "(--detections FILE --annotations FILE)."
        )
    for name in of_a_file if given else ("CKPT", "--data"):
        if name not in [*given, *others]:
            raise DetrkitError(
                f"{name} is missing: name CKPT --data DIR to judge a checkpoint, or "
                "--detections FILE --annotations FILE to judge a file of COCO results."
            )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ious(text: str) -> tuple[float, ...]:
    from detrkit.evaluation.coco import COCO_IOUS

    if not text:
        return COCO_IOUS
    try:
        ious = sorted({float(part) for part in _listed(text)})
    except ValueError:
        ious = []
    if not ious or not 0 < ious[0] <= ious[-1] <= 1:
        raise DetrkitError(f"--iou {text}: expected are numbers above 0 and up to 1, such as 0.5,0.75.")
    return tuple(ious)


def _limits(most: int) -> tuple[int, ...]:
    """COCO's numbers of detections below the one wanted, and this as the last, which AP has."""
    from detrkit.evaluation.coco import MAX_DETECTIONS

    return (*(limit for limit in MAX_DETECTIONS if limit < most), most)


def _read(detections: Path, annotations: Path) -> "tuple[Catalog, list[Result]]":
    from detrkit.data.formats.coco import read_coco
    from detrkit.evaluation.coco import read_results

    catalog = read_coco(annotations, annotations.parent)
    return catalog, read_results(detections, catalog)


def _catalog(data: Path, split: str) -> "Catalog":
    from detrkit.data.formats.recognise import choose_split, read_split

    return read_split(data, choose_split(data, split, ("val2017", "val")))


def _load(checkpoint: Path, device: str | None, assignments: list[str] | None) -> "Detector":
    from detrkit.inference.load import load
    from detrkit.settings.experiment import parse_overrides

    return load(checkpoint, chosen_device(device), parse_overrides(assignments or []))


def _say_enlarged(catalog: "Catalog", detector: "Detector") -> None:
    from detrkit.data.dataset import describe_enlarged

    for note in describe_enlarged(catalog, "the detector", detector.image_size.short_side):
        say(f"Note: {note}", err=True)


def _detect(
    detector: "Detector", catalog: "Catalog", batch_size: int, workers: int, precision: Precision
) -> "list[Result]":
    from rich.markup import escape
    from rich.progress import track

    from detrkit.evaluation.coco import to_results
    from detrkit.inference.evaluate import detect_split
    from detrkit.terminal import open_console

    found = detect_split(detector, catalog, batch_size=batch_size, workers=workers, precision=precision)
    title = f"Evaluating {escape(str(catalog.source))}"
    watched = track(found, title, total=len(catalog), console=open_console(stderr=True))
    return [entry for image_id, detections in watched for entry in to_results(catalog, image_id, detections)]
