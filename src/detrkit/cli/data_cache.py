"""``detrkit data cache``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say

if TYPE_CHECKING:
    from detrkit.data.resize import Copy
    from detrkit.settings.data import DataSettings


def cache(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="The dataset, in any layout.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The folder of the copy.", show_default=False)
    ],
    size: Annotated[
        int, typer.Option(min=1, help="The shorter side that larger images get: data.short_sides' largest.")
    ] = 800,
    quality: Annotated[int, typer.Option(min=1, max=100, help="The JPEG quality of resized images.")] = 95,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes; 0 takes none but this. Unless set: one for each core."),
    ] = None,
    chosen: Annotated[
        str, typer.Option("--splits", metavar="A,B", help="The splits to copy. Unless set: all.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="Whose views are timed in the end.")
    ] = "detr_r50",
) -> None:
    """Copy a dataset with smaller images, for training where processors decode too slowly.

    DST is trained on and evaluated like DIR: in COCO's layout, with boxes, areas and sizes in the pixels of
    the originals, to the last bit. Images whose shorter side exceeds --size are resized to it and saved as
    JPEG, those of another format with .jpg after their name; the others are hard links. Training enlarges
    what it wants larger than DST has it, and says so.

    The same command goes on where it was stopped, does nothing if all is there, and makes files again that
    were removed. In the end it says what was gained.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from detrkit.data.resize import write_resized_copy
    from detrkit.settings.experiment import recipe as read_recipe
    from detrkit.terminal import open_console

    settings = read_recipe(recipe).data
    bar = Progress(
        TextColumn("Resizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=open_console(stderr=True),
    )
    task = bar.add_task("", total=None, visible=False)
    with bar:
        copy = write_resized_copy(
            source,
            target,
            size,
            quality=quality,
            chosen=tuple(name.strip() for name in chosen.split(",") if name.strip()),
            workers=(os.cpu_count() or 1) if workers is None else workers,
            show=lambda done, number: bar.update(task, completed=done, total=number, visible=True),
        )
    for split, catalog in copy.copies.items():
        say(f"{split}: {len(catalog):,} images, {len(catalog.labels):,} objects")
    if not copy.made:
        say(f"{target}: there already and complete.")
        return
    for line in _gains(copy, settings):
        say(line)
    say(f"Wrote {target}.")


def _gains(copy: "Copy", settings: "DataSettings") -> list[str]:
    """The disk and the time that the largest split takes, and what training will say of its images."""
    from detrkit.data.dataset import describe_enlarged
    from detrkit.data.pace import compare_pace
    from detrkit.data.resize import space

    disk = space(copy)
    number = sum(map(len, copy.copies.values()))
    if not copy.resized:
        return [f"No shorter side of the {number:,} images is larger than --size: nothing is gained."]
    split = max(copy.originals, key=lambda name: len(copy.originals[name]))
    pace = compare_pace(copy.originals[split], copy.copies[split], settings)
    return [
        f"Images resized: {copy.resized:,} of {number:,}.",
        f"Disk: {disk.originals / 1e6:,.1f} MB of images before, {disk.copies / 1e6:,.1f} MB now, "
        f"{disk.linked / 1e6:,.1f} MB of them as links that take no room.",
        f"Training views: {1e3 * pace.originals:.1f} ms before, {1e3 * pace.copies:.1f} ms now, "
        f"{pace.ratio:.2f} times as fast ({pace.images} images of {split}, {pace.turns} turns, one thread).",
        *describe_enlarged(copy.copies[split], "data.short_sides", max(settings.short_sides)),
    ]
