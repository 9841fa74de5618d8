"""``detrkit data subset``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say
from detrkit.cli.written import (
    Layout,
    Seed,
    Stratified,
    Target,
    names_of,
    read_separate,
    say_classes,
    say_written,
)
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from detrkit.catalog import Catalog


def subset(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset.", show_default=False)],
    target: Target,
    images: Annotated[
        str, typer.Option(metavar="N", help="Images of each split: a number, or a fraction such as 0.1.")
    ] = "",
    classes: Annotated[
        str, typer.Option(metavar="A,B", help="Keep the objects of these classes, and images that have any.")
    ] = "",
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Keep images without an object of --classes, too.")
    ] = False,
    keep_categories: Annotated[
        bool, typer.Option("--keep-categories", help="List all classes, not only --classes.")
    ] = False,
    chosen: Annotated[
        str,
        typer.Option(
            "--splits",
            metavar="A,B",
            help="The splits to take. Unless set: all that do not only repeat others.",
        ),
    ] = "",
    stratified: Stratified = True,
    seed: Seed = 0,
    layout: Layout = "coco",
) -> None:
    """Write some images of a dataset, or the objects of some classes, as a dataset of its own.

    Classes are chosen first, and keep their ids; images are drawn from what is left. The same seed draws the
    same images. Where a split has fewer than asked for, all are taken. Images become hard links to those of
    DIR where the file system can make them, else copies.
    """
    from detrkit.data.convert import require_same_categories, write_limited
    from detrkit.data.shares import count_of, read_share
    from detrkit.data.subset import draw_images
    from detrkit.data.write import require_new

    share = read_share(images, "--images") if images else 1.0
    if not images and not classes:
        raise DetrkitError("a subset needs --images N, --classes A,B or both: say which part to keep.")
    require_new(target)
    whole = read_separate(folder, names_of(chosen))
    require_same_categories(whole)
    left = whole
    if classes:
        left = _of_classes(whole, names_of(classes), keep_empty=keep_empty, keep_categories=keep_categories)
    drawn = {
        split: draw_images(catalog, count_of(share, len(catalog)), seed, stratified=stratified)
        for split, catalog in left.items()
    }
    done = write_limited(drawn, target, layout, insist=bool(chosen))
    say_classes(drawn, whole)
    for split in whole.keys() - drawn.keys():
        say(f"Left out: split {split}, of which no image has an object of these classes")
    say_written(done, target)


def _of_classes(
    catalogs: "dict[str, Catalog]", names: tuple[str, ...], *, keep_empty: bool, keep_categories: bool
) -> "dict[str, Catalog]":
    """The splits that have images left."""
    from detrkit.data import subset

    kept = {}
    for split, catalog in catalogs.items():
        subset.require_classes(catalog, names)
        catalog = subset.keep_objects_of(catalog, names)
        if not keep_categories:
            catalog = subset.keep_categories(catalog, names)
        if not keep_empty:
            catalog = subset.drop_empty_images(catalog)
        if len(catalog):
            kept[split] = catalog
    if not kept:
        raise DetrkitError(
            f"no image of {', '.join(catalogs)} has an object of {', '.join(names)}: "
            "choose other classes or splits, or keep images without objects by --keep-empty."
        )
    return kept
