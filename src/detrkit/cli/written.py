"""What commands that write a dataset have in common: options, what they read, and what they say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrkit.cli.say import say

if TYPE_CHECKING:
    from detrkit.catalog import Catalog
    from detrkit.data.write import Written

_LISTED_CLASSES = 100
_LISTED_NAMES = 20

Layout = Annotated[Literal["coco", "voc", "yolo"], typer.Option("--to", help="The layout of DST.")]
Target = Annotated[Path, typer.Argument(metavar="DST", help="A new folder.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Another one draws other images.")]
Stratified = Annotated[
    bool,
    typer.Option("--stratified/--random", help="Keep the classes' shares of images, or draw images blindly."),
]


def names_of(text: str) -> tuple[str, ...]:
    """The names in a text such as ``a, b``."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_separate(folder: Path, chosen: tuple[str, ...] = ()) -> "dict[str, Catalog]":
    """The chosen splits, by default all but those that only repeat the images of others, which is printed."""
    from detrkit.data.convert import read_dataset
    from detrkit.data.overlap import drop_repeated_splits

    catalogs = read_dataset(folder, chosen)
    kept = catalogs if chosen else drop_repeated_splits(catalogs)
    for split in catalogs.keys() - kept.keys():
        say(f"Left out: split {split} of {folder}, all of whose images its other splits have")
    return kept


def say_written(done: "Written", target: Path) -> None:
    """Print what a new dataset holds, how its images came there and what changed."""
    for split, catalog in done.catalogs.items():
        say(f"{split}: {len(catalog):,} images, {len(catalog.labels):,} objects")
    say("Images " + ", ".join(f"{how}: {number:,}" for how, number in done.placed.items()) + ".")
    for change in done.changes:
        say(f"Changed: {change}")
    say(f"Wrote {target}.")


def say_classes(chosen: Mapping[str, "Catalog"], whole: Mapping[str, "Catalog"] | None = None) -> None:
    """Print the images, and the objects by class, of each split, and which share of ``whole`` they are."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from detrkit.terminal import open_console

    whole = whole or {}
    counts = {split: _objects_of(catalog) for split, catalog in chosen.items()}
    of = {split: _objects_of(catalog) for split, catalog in whole.items()}

    def cells(name: str) -> list[str]:
        return [_share(counts[split][name], of[split][name] if split in of else 0) for split in chosen]

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for split in chosen:
        table.add_column(escape(split), justify="right")
    table.add_row("Images", *(_share(len(chosen[one]), len(whole.get(one, ()))) for one in chosen))
    table.add_row(
        "Objects", *(_share(counts[one].total(), of[one].total() if one in of else 0) for one in chosen)
    )
    table.add_section()
    totals = sum(counts.values(), Counter[str]())
    for name, _ in totals.most_common(_LISTED_CLASSES):
        table.add_row(escape(name), *cells(name))
    if len(totals) > _LISTED_CLASSES:
        table.caption = f"and {len(totals) - _LISTED_CLASSES:,} rarer classes"
    open_console(emoji=False).print(table)
    if lost := [name for name in sum(of.values(), Counter[str]()) if name not in totals]:
        say(f"Left without objects: {len(lost):,} classes, {listed(lost)}")


def listed(names: Sequence[str]) -> str:
    """The first of these names."""
    return ", ".join(names[:_LISTED_NAMES]) + (", .." if len(names) > _LISTED_NAMES else "")


def _objects_of(catalog: "Catalog") -> Counter[str]:
    """The objects of each class, crowds too."""
    return Counter(
        {
            category.name: int((catalog.labels == label).sum())
            for label, category in enumerate(catalog.categories)
        }
    )


def _share(number: int, whole: int) -> str:
    return f"{number:,} ({number / whole:.1%})" if whole else f"{number:,}"
