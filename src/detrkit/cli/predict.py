"""``detrkit predict``."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from detrkit.catalog import Category
    from detrkit.structures import Detections


def predict(
    checkpoint: Checkpoint,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Images, folders with images directly inside, or patterns."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("predictions"),
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The lowest score that counts.")] = 0.5,
    batch_size: BatchSize = 1,
    precision: Precision = "fp32",
    device: Device = None,
    assignments: Assignments = None,
) -> None:
    """Draw what a detector finds in images, and list it in predictions.json."""
    from torchvision.transforms.v2.functional import to_pil_image

    from detrkit.drawing import draw_detections
    from detrkit.inference.load import load
    from detrkit.inference.predictor import Predictor, find_images
    from detrkit.settings.experiment import parse_overrides

    files = find_images(paths)
    pictures = _pictures(files, out)
    detector = load(checkpoint, chosen_device(device), parse_overrides(assignments or []))
    predictor = Predictor(detector, threshold, batch_size, precision)
    names = [category.name for category in detector.categories]
    output_folder(out)

    entries = []
    for file, picture, (image, found) in zip(files, pictures, predictor.each(files), strict=True):
        to_pil_image(draw_detections(image, found, names)).save(picture, quality=95)
        entries.append({"file": str(file), "detections": _listed(found, detector.categories)})
        say(f"{file}: {_summary(found, names)} -> {picture}")
    (out / "predictions.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
    say(f"The pictures and predictions.json are in {out}.")


def _pictures(files: Sequence[Path], folder: Path) -> list[Path]:
    """Where the picture of each file goes: under its own name, numbered where another has that name."""
    inputs = {file.resolve() for file in files}
    taken: set[str] = set()
    pictures = []
    for file in files:
        name = next(name for name in _names(file) if name.lower() not in taken)
        taken.add(name.lower())
        if (folder / name).resolve() in inputs:
            raise DetrkitError(
                f"--out {folder} would overwrite the image {folder / name}: name another folder."
            )
        pictures.append(folder / name)
    return pictures


def _names(file: Path) -> Iterator[str]:
    suffix = file.suffix if file.suffix.lower() in (".jpg", ".jpeg") else ".png"
    numbers = chain([""], (f"-{number}" for number in count(2)))
    return (f"{file.stem}{number}{suffix}" for number in numbers)


def _listed(found: "Detections", categories: "Sequence[Category]") -> list[dict[str, Any]]:
    rows = zip(found.boxes.double().tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [
        {
            "category_id": categories[label].id,
            "category": categories[label].name,
            "score": score,
            "bbox": [left, top, right - left, bottom - top],
        }
        for (left, top, right, bottom), score, label in rows
    ]


def _summary(found: "Detections", names: Sequence[str]) -> str:
    counts = Counter(names[label] for label in found.labels.tolist())
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing"
