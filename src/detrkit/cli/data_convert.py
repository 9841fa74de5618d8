"""``detrkit data convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

LayoutName = Literal["coco", "voc", "yolo"]


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The dataset.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A new folder for the converted one.", show_default=False)
    ],
    source_layout: Annotated[
        LayoutName | None, typer.Option("--from", help="The layout of SRC. Unless set: recognised.")
    ] = None,
    layout: Annotated[LayoutName, typer.Option("--to", help="The layout of DST.")] = "coco",
    chosen: Annotated[
        str, typer.Option("--splits", metavar="A,B", help="The splits to convert. Unless set: all.")
    ] = "",
) -> None:
    """Write a dataset in another layout, and list what that cannot say.

    Carried over are images, boxes, classes, areas and crowds; masks, keypoints, captions, poses and parts are
    not read. Images become hard links to those of SRC where the file system can make them, else copies. DST
    gets its name when all is written.
    """
    from detrkit.data.convert import convert

    names = tuple(name.strip() for name in chosen.split(",") if name.strip())
    done = convert(source, target, layout, source_layout=source_layout, chosen=names)
    for split, catalog in done.catalogs.items():
        typer.echo(f"{split}: {len(catalog):,} images, {len(catalog.labels):,} objects")
    typer.echo("Images " + ", ".join(f"{how}: {number:,}" for how, number in done.placed.items()) + ".")
    for change in done.changes:
        typer.echo(f"Changed: {change}")
    typer.echo(f"Wrote {target}.")
