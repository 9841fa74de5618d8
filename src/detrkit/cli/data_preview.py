"""``detrkit data preview``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from detrkit.cli.options import Assignments, output_folder
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from PIL import Image

    from detrkit.catalog import Catalog
    from detrkit.settings.experiment import ModelSettings

_SUFFIXES = (".png", ".jpg", ".jpeg")
_COUNTED = 1000
"""Images whose views are counted for the figures."""


def preview(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The dataset, in any layout that is known.", show_default=False),
    ],
    recipe: Annotated[str, typer.Option(help="A recipe's name or a .toml file, as for train.")] = "detr_r50",
    assignments: Assignments = None,
    split: Annotated[
        str,
        typer.Option(help="Unless set: data.train_split, or else train2017 or train.", show_default=False),
    ] = "",
    images: Annotated[int, typer.Option(min=1, max=64, help="How many images, chosen at random.")] = 6,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME", help="Show this image instead, by file name or id; repeatable."
        ),
    ] = None,
    views: Annotated[int, typer.Option(min=1, max=10, help="How many epochs.")] = 3,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Decides images and views. Unless set: train.seed.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture, .png or .jpg.")] = Path(
        "preview.png"
    ),
) -> None:
    """Draw what the model really sees: images as stored, and as training shows them, with their boxes.

    The views are those of a training with this recipe and seed, made from the network's own input. Figures
    tell how large images and objects are there, and what crops leave of the objects.
    """
    from detrkit.data.formats.recognise import choose_split, read_split
    from detrkit.data.preview.facts import count_facts, describe_facts
    from detrkit.data.preview.given import previews
    from detrkit.data.preview.sheet import draw_sheet
    from detrkit.settings.experiment import parse_overrides
    from detrkit.settings.experiment import recipe as read_recipe

    _require_picture(out)
    experiment = read_recipe(recipe, parse_overrides(assignments or []))
    settings, seed = experiment.data, experiment.train.seed if seed is None else seed
    split = choose_split(folder, split or settings.train_split, ("train2017", "train"))
    catalog = read_split(folder, split)
    shown = _named(catalog, names) if names else _random(catalog, seed, images)
    cell = _cell(experiment.model)
    title = f"{folder.resolve().name}, {split}: {Path(recipe).stem} with seed {seed}"
    sheet = draw_sheet(title, catalog, settings, previews(catalog, settings, seed, shown, views), cell)
    _save(sheet, out)

    counted = _random(catalog, seed, _COUNTED)
    facts = count_facts(catalog, settings, seed, counted, views)
    say(f"{folder}, {split}: {facts.images:,} of {len(catalog):,} images, in epochs 0 to {views - 1}.")
    for sentence in describe_facts(facts, catalog, settings, cell):
        say(sentence)
    say(f"Wrote {out}: {len(shown)} images, {sheet.width} x {sheet.height} pixels.")


def _require_picture(out: Path) -> None:
    """Refuse, before any work is done, a name that no picture can be written to."""
    if out.suffix.lower() not in _SUFFIXES or out.is_dir():
        raise DetrkitError(f"--out {out} is not the name of a picture: end it in {', '.join(_SUFFIXES)}.")
    output_folder(out.parent)


def _random(catalog: "Catalog", seed: int, count: int) -> list[int]:
    """That many images, or all if there are fewer, in the catalog's order."""
    import numpy as np

    return sorted(np.random.default_rng([seed]).permutation(len(catalog))[:count].tolist())


def _named(catalog: "Catalog", names: list[str]) -> list[int]:
    """The images of these file names, with or without folder and suffix, or ids."""
    found: dict[str, int] = {}
    for index, file_name in enumerate(catalog.file_names.tolist()):
        path = Path(file_name)
        for name in (file_name, path.name, path.stem, str(catalog.image_ids[index])):
            found.setdefault(name, index)
    for name in names:
        if name not in found:
            raise DetrkitError(
                f"--name {name}: {catalog.source} has no image of this name or id, but {len(catalog):,} "
                f"others such as {catalog.file_names[0]} (id {catalog.image_ids[0]})."
            )
    return list(dict.fromkeys(found[name] for name in names))


def _cell(model: "ModelSettings") -> int:
    """Pixels on a side of a cell of the finest feature map that objects are found in."""
    match model.kind:
        case "detr":
            strides = {"layer2": 8, "layer3": 16, "layer4": 16 if model.backbone.dilation else 32}
            return strides[model.backbone.levels[0]]
        case "faster_rcnn" | "mask_rcnn":
            return 4
        case "retinanet" | "fcos" | "ssd300":
            return 8
        case "ssdlite320":
            return 16
        case other:
            assert_never(other)


def _save(sheet: "Image.Image", out: Path) -> None:
    """JPEG without coarser colours, which would blur letters and lines; PNG as small as it gets."""
    try:
        sheet.save(out, quality=92, subsampling=0, optimize=True)
    except OSError as error:
        raise DetrkitError(f"{out} cannot be written: {error}; name another with --out.") from None
