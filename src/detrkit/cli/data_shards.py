"""``detrkit data shards``."""

from pathlib import Path
from typing import Annotated

import typer

from detrkit.cli.say import say


def shards(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="The dataset, in any layout.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The folder for its shards.", show_default=False)
    ],
    size: Annotated[
        float | None,
        typer.Option("--size-mb", min=0.01, help="Largest size of a shard, in 10^6 bytes. Unless set: 500."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images-per-shard", min=1, help="Most images of a shard. Unless set: any number."),
    ] = None,
    chosen: Annotated[
        str, typer.Option("--splits", metavar="A,B", help="The splits to pack. Unless set: all.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Says which images share a shard.")] = 0,
) -> None:
    """Pack images into WebDataset's tar shards, for file systems that are slow at many small files.

    All that takes --data reads DST as it reads DIR, with the same samples to the bit. Training mixes the
    images of data.shards_at_once shards at a time; every image comes once in an epoch.

    The same command goes on after an interruption, and writes missing shards again. DST has COCO's layout:
    annotations/instances_SPLIT.json, SPLIT/SPLIT-000000.tar and so on, and their index SPLIT/shards.json.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from detrkit.data.shards.write import NO_LIMIT, Limits, write_shards
    from detrkit.terminal import open_console

    names = tuple(name.strip() for name in chosen.split(",") if name.strip())
    if size is None and images is None:
        size = 500
    console = open_console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("Reading annotations", total=None)
        written = write_shards(
            source,
            target,
            lambda split, done, total: bars.update(task, description=split, completed=done, total=total),
            limits=Limits(NO_LIMIT if size is None else round(size * 1e6), images or NO_LIMIT),
            chosen=names,
            seed=seed,
        )
    for split, one in written.items():
        now = {0: "there already", one.shards: "written"}.get(one.written, f"{one.written:,} of them written")
        plural = "" if one.shards == 1 else "s"
        say(f"{split}: {one.images:,} images in {one.shards:,} shard{plural}, {one.bytes:,} bytes, {now}")
    say(f"Train with --data {target}.")
