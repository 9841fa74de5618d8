"""``detrkit data merge``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say
from detrkit.cli.written import Layout, listed, read_separate, say_classes, say_written
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from detrkit.catalog import Catalog


def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR DIR.. DST", help="The datasets, and a new folder.", show_default=False),
    ],
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="OLD=NEW",
            help="Rename a class, or drop its objects by OLD= alone; repeatable. Or a .toml or .json file of "
            "old names with new ones.",
        ),
    ] = None,
    layout: Layout = "coco",
) -> None:
    """Write several datasets, each in any layout, as one.

    Classes are matched by name; those of the first dataset keep their ids. Splits of one name are joined.
    Ids of images and objects are kept where no two are the same, else counted anew. Images with one name stay
    apart, and become hard links where the file system can make them, else copies.
    """
    from detrkit.data.convert import write_limited
    from detrkit.data.merge import alike, merge
    from detrkit.data.renames import read_renames
    from detrkit.data.write import require_new

    *sources, target = folders
    if len(sources) < 2:
        raise DetrkitError(
            f"merge got {len(folders)} folders, but needs two datasets at least, and a new folder at the end."
        )
    renames = read_renames(given or [])
    require_new(target)
    datasets = [read_separate(source) for source in sources]
    merged = merge(datasets, renames)
    catalogs = {split: joined.catalog for split, joined in merged.items()}
    files = {split: joined.files for split, joined in merged.items()}
    done = write_limited(catalogs, target, layout, files, insist=False)
    say_classes(catalogs)
    _say_names(sources, [_names(dataset) for dataset in datasets], renames)
    for names in alike(category.name for category in next(iter(catalogs.values())).categories):
        say(f"Alike, but not matched: {', '.join(names)}; --map '{names[1]}={names[0]}' makes them one.")
    for split, joined in merged.items():
        if joined.repeated:
            say(f"Left out: images of {split} that an earlier dataset has too: {joined.repeated:,}")
    say_written(done, target)


def _names(dataset: "Mapping[str, Catalog]") -> list[str]:
    return list(dict.fromkeys(one.name for catalog in dataset.values() for one in catalog.categories))


def _say_names(sources: Sequence[Path], names: Sequence[list[str]], renames: Mapping[str, str]) -> None:
    """Print which classes were renamed or dropped, and which only one of the datasets has."""
    new = [{renames.get(name, name) for name in own} for own in names]
    for old, name in renames.items():
        where = ", ".join(str(source) for source, own in zip(sources, names, strict=True) if old in own)
        say(f"Renamed: {old} to {name}, of {where}" if name else f"Dropped: {old}, of {where}")
    for number, (source, own) in enumerate(zip(sources, new, strict=True)):
        others = set[str]().union(*(found for place, found in enumerate(new) if place != number))
        if alone := sorted(own - others - {""}):
            say(f"Of {source} alone: {len(alone):,} classes, {listed(alone)}")
