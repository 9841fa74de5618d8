"""``detrkit data convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from detrkit.cli.written import Layout, Target, names_of, say_written


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The dataset.", show_default=False)],
    target: Target,
    source_layout: Annotated[
        Literal["coco", "voc", "yolo"] | None,
        typer.Option("--from", help="The layout of SRC. Unless set: recognised."),
    ] = None,
    layout: Layout = "coco",
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

    say_written(convert(source, target, layout, source_layout=source_layout, chosen=names_of(chosen)), target)
