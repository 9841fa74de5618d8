"""``detrkit data``: datasets on disk."""

from pathlib import Path
from typing import Annotated

import typer

from detrkit.cli.data_cache import cache
from detrkit.cli.data_check import check
from detrkit.cli.data_convert import convert
from detrkit.cli.data_fetch import fetch
from detrkit.cli.data_merge import merge
from detrkit.cli.data_preview import preview
from detrkit.cli.data_shards import shards
from detrkit.cli.data_split import split
from detrkit.cli.data_stats import stats
from detrkit.cli.data_subset import subset
from detrkit.cli.say import say

app = typer.Typer(help="Make datasets ready for training.", no_args_is_help=True)
app.command()(fetch)
app.command()(convert)
app.command()(check)
app.command()(stats)
app.command()(preview)
app.command()(subset)
app.command()(split)
app.command()(merge)
app.command()(cache)
app.command()(shards)


@app.command()
def shapes(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the dataset is written.")],
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            default_factory=list,
            show_default=False,
            help="A setting, such as seed=1: train_images, val_images, image_size, num_shapes, sides, "
            "overlap, contrast, background_cell, background_range or seed.",
        ),
    ],
) -> None:
    """Draw a small dataset of shapes in COCO's layout, for trying detectors without a download."""
    from detrkit.cli.options import output_folder
    from detrkit.data.shapes import ShapesSettings, write_shapes
    from detrkit.settings.experiment import parse_overrides
    from detrkit.settings.section import read_section

    settings = read_section(ShapesSettings, parse_overrides(overrides), "shapes")
    written = write_shapes(output_folder(folder), settings)
    images = f"{settings.train_images:,} images in train and {settings.val_images:,} in val"
    say(f"{folder}: {images}" + ("." if written else ", already there."))
