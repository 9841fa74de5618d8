"""``detrkit data split``."""

from pathlib import Path
from typing import Annotated

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


def split(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset.", show_default=False)],
    target: Target,
    parts: Annotated[
        str,
        typer.Option(
            metavar="A=N,B=N",
            help="The new splits, each with a number of images or a fraction; one without gets the rest.",
        ),
    ] = "train=0.8,val=0.2",
    chosen: Annotated[
        str, typer.Option("--splits", metavar="A,B", help="What to split, as one. Unless set: all splits.")
    ] = "",
    stratified: Stratified = True,
    seed: Seed = 0,
    layout: Layout = "coco",
) -> None:
    """Share out the images of a dataset to new splits, each image to one.

    Each part gets the same share of the images of every class, as nearly as that can be (iterative
    stratification, Sechidis et al. 2011). The same seed gives the same parts. Files with the same bytes go to
    the same part, and count once in its number of images. Images become hard links to those of DIR where the
    file system can make them, else copies.
    """
    from detrkit.data.check.pictures import contents
    from detrkit.data.convert import require_same_categories, write_limited
    from detrkit.data.merge import join
    from detrkit.data.shares import counts_of, read_shares
    from detrkit.data.split import originals, split
    from detrkit.data.subset import take_images
    from detrkit.data.write import require_new

    shares = read_shares(parts, "--parts")
    require_new(target)
    catalogs = read_separate(folder, names_of(chosen))
    require_same_categories(catalogs)
    whole = join(list(catalogs.values()))
    original_of = originals(contents(whole.files))
    counts = counts_of(shares, len(set(original_of.tolist())), "--parts")
    rows = split(whole.catalog, original_of, counts, seed, stratified=stratified)
    new = {name: take_images(whole.catalog, part) for name, part in rows.items()}
    files = {name: [whole.files[row] for row in part] for name, part in rows.items()}
    done = write_limited(new, target, layout, files, insist=True)
    say_classes(new, dict.fromkeys(new, whole.catalog))
    if whole.repeated:
        say(f"Taken once: images that several of {', '.join(catalogs)} have, {whole.repeated:,} times more")
    if copies := len(whole.files) - sum(counts.values()):
        say(f"Kept together: images whose files have the same bytes as another's: {copies:,}")
    say_written(done, target)
