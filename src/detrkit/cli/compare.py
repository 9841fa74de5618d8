"""``detrkit compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detrkit.cli.report import Data
from detrkit.errors import DetrkitError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from detrkit.report.content import Block, Table

_LISTED = 40
"""How many rows of a long table are printed."""


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN..", help="Run folders.", show_default=False)],
    data: Data = None,
) -> None:
    """Compare runs in the terminal: figures side by side, whether one is better, which settings differ."""
    from detrkit.report.comparison import differences_section
    from detrkit.report.differences import between
    from detrkit.report.evidence import gather
    from detrkit.report.overview import side_by_side
    from detrkit.report.record import read_run, told_apart
    from detrkit.report.validation import figures_section
    from detrkit.terminal import open_console, words

    if len(runs) < 2:
        raise DetrkitError(f"{runs[0]} is only one run: name two or more, or see detrkit report {runs[0]}.")
    found = [gather(record, data) for record in told_apart([read_run(folder) for folder in runs])]
    records = [one.record for one in found]
    console = open_console(highlight=False, emoji=False)
    for section in (
        side_by_side(records),
        figures_section(records),
        differences_section(found),
        between(records),
    ):
        console.print(words(section.title, style="bold"))
        for block in section.blocks:
            _print(console, block)
        console.print()


def _print(console: "Console", block: "Block") -> None:
    from detrkit.report import content
    from detrkit.terminal import words

    match block:
        case content.Table():
            console.print(_table(block))
        case content.Text(text):
            console.print(words(text))
        case content.Missing(text):
            console.print(words(text, style="yellow"))
        case _:
            raise AssertionError(f"a comparison has no {type(block).__name__}")


def _table(table: "Table") -> "RichTable":
    from rich import box
    from rich.markup import escape
    from rich.table import Table as Grid

    from detrkit.report.content import show

    grid = Grid(box=box.SIMPLE_HEAD, caption=escape(table.caption), caption_justify="left")
    for column in table.columns:
        grid.add_column(
            escape(column.name), justify="left" if column.kind == "text" else "right", overflow="fold"
        )
    for row in table.rows[:_LISTED]:
        cells = (show(value, column.kind) for value, column in zip(row, table.columns, strict=True))
        grid.add_row(*map(escape, cells))
    if len(table.rows) > _LISTED:
        grid.add_row(f"and {len(table.rows) - _LISTED:,} more")
    return grid
