"""``detrkit data stats``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.say import say
from detrkit.errors import DetrkitError, printable

if TYPE_CHECKING:
    from rich.table import Table

    from detrkit.data.statistics import SplitStatistics

_LISTED_CLASSES = 100
_SUFFIXES = (".png", ".svg", ".pdf")


def stats(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset, in any layout that is known.")],
    split: Annotated[
        str, typer.Option(help="What the picture shows. Unless set: train2017, train or the largest split.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures into this .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Count classes, objects and their sizes, and say which settings these suggest."""
    from rich.text import Text

    from detrkit.data.formats.recognise import choose_split, read_split, splits
    from detrkit.data.statistics import statistics_of, suggest
    from detrkit.terminal import open_console, words

    if out is not None and out.suffix.lower() not in _SUFFIXES:
        raise DetrkitError(f"--out {out} has none of the suffixes {', '.join(_SUFFIXES)}: name a picture.")
    if split:
        choose_split(folder, split, ())
    try:
        catalogs = {name: read_split(folder, name) for name in splits(folder)}
    except DetrkitError as error:
        raise DetrkitError(f"{error} `detrkit data check {folder}` finds all such faults.") from None
    figures = {name: statistics_of(catalog) for name, catalog in catalogs.items()}
    largest = max(figures, key=lambda name: figures[name].images)
    shown = split or next((name for name in ("train2017", "train") if name in figures), largest)
    suggestions = suggest(figures, shown)

    console = open_console(emoji=False)
    console.print(_split_table(figures))
    console.print(_class_table(figures))
    for one in suggestions:
        console.print(Text.assemble(words(f"{one.setting} = {one.value}", "bold"), words(f": {one.reason}.")))
    if out is None:
        say("Nothing was written; --out FILE draws a picture.")
        return
    from detrkit.data.figure import draw_statistics

    out.parent.mkdir(parents=True, exist_ok=True)
    title = printable(f"{folder.resolve().name}, {shown}")
    draw_statistics(catalogs[shown], figures[shown], title, suggestions[0].value).savefig(out, dpi=110)
    say(f"Wrote {out}.")


def _split_table(splits: "Mapping[str, SplitStatistics]") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Split")
    headings = ("Images", "Empty", "Objects", "Crowds", "Median", "Most", "Small", "Medium", "Large")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, one in splits.items():
        per_image = sorted(one.objects_of_image.tolist())
        middle = (per_image[(len(per_image) - 1) // 2] + per_image[len(per_image) // 2]) / 2
        table.add_row(
            escape(name),
            *(f"{count:,}" for count in (one.images, one.empty_images, one.objects, one.crowds)),
            f"{middle:g}",
            f"{per_image[-1]:,}",
            *(f"{count:,} ({count / max(one.objects, 1):.0%})" for count in one.by_size()),
        )
    table.caption = "Median and Most are of objects per image; sizes are COCO's: areas from 32² and from 96²."
    return table


def _class_table(splits: "Mapping[str, SplitStatistics]") -> "Table":
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for name, one in splits.items():
        for label, category in enumerate(one.names):
            figures = int(one.objects_of_class[label]), int(one.images_of_class[label])
            counts.setdefault(category, {})[name] = figures
    order = sorted(counts, key=lambda category: -sum(objects for objects, _ in counts[category].values()))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Class", overflow="fold")
    for name in splits:
        table.add_column(f"{escape(name)}: objects", justify="right")
        table.add_column("in images", justify="right")
    for category in order[:_LISTED_CLASSES]:
        cells = (counts[category].get(name, (0, 0)) for name in splits)
        table.add_row(escape(category), *(f"{count:,}" for cell in cells for count in cell))
    if len(order) > _LISTED_CLASSES:
        table.caption = f"and {len(order) - _LISTED_CLASSES:,} rarer classes"
    return table
