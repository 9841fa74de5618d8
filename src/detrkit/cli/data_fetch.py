"""``detrkit data fetch``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrkit.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.progress import TaskID

    from detrkit.data.fetch.coco import Outcome
    from detrkit.data.fetch.progress import Progress


def fetch(
    dataset: Annotated[Literal["coco"], typer.Argument(help="Which dataset.", show_default=False)],
    root: Annotated[Path, typer.Option(help="The folder that it is put into.", show_default=False)],
    splits: Annotated[
        str, typer.Option(help="Splits, separated by commas. Unless set: train and val of the year.")
    ] = "",
    year: Annotated[Literal["2017", "2014"], typer.Option(help="Which of COCO's releases.")] = "2017",
    mirror: Annotated[
        str,
        typer.Option(
            metavar="URL",
            show_default=False,
            help="A server with the same files (zips/ and annotations/). Unless set: images.cocodataset.org.",
        ),
    ] = "",
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Leave the zip files in the folder's .fetch.")
    ] = False,
) -> None:
    """Download COCO, verify it and put it in place; the same command goes on, mends, or does nothing.

    COCO 2017 is 20 GB to download and takes 42 GB of disk on the way, 21 GB in the end.

    The environment's HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are heeded.
    """
    from detrkit.data.fetch.coco import archive_file, fetch_coco
    from detrkit.data.fetch.releases import RELEASES, SERVER, parts_of
    from detrkit.terminal import open_console

    release = RELEASES[year]
    chosen = [name.strip() for name in splits.split(",")] if splits else list(release.splits)
    parts = parts_of(release, chosen)
    with _Bars(open_console(stderr=True, highlight=False)) as bars:
        outcomes = fetch_coco(root, parts, bars.show, server=mirror or SERVER, keep_archives=keep_archives)
    for line in _summary(root, outcomes):
        say(line)
    if keep_archives:
        kept = [archive_file(root, part) for part in parts]
        say("Archives: " + (", ".join(str(file) for file in kept if file.exists()) or "none") + ".")


def _summary(root: Path, outcomes: "Sequence[Outcome]") -> list[str]:
    titles = {
        "fetched": "fetched",
        "there": "there already and complete",
        "found": "there already, and not from here: only their number was checked",
    }
    lines = [f"{root}: {_content(outcome)} {titles[outcome.state]}." for outcome in outcomes]
    return lines if any(outcome.state == "fetched" for outcome in outcomes) else [*lines, "Nothing to fetch."]


def _content(outcome: "Outcome") -> str:
    wanted = outcome.part.wanted
    return ", ".join(wanted.names) or f"{wanted.num_images:,} images of {wanted.folder}"


class _Bars:
    """A bar for each part and stage on a terminal, and elsewhere a line at every tenth of it."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._tenths: dict[tuple[str, str], int] = {}

    def __enter__(self) -> "_Bars":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def show(self, progress: "Progress") -> None:
        """Show how far a stage is."""
        stage = (progress.part, progress.stage)
        if not self._console.is_terminal:
            self._print(stage, progress)
        elif stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=progress.done)
        else:  # what was there before must not count as speed
            self._tasks[stage] = self._bars.add_task(
                f"{progress.part} {progress.stage}", total=progress.total, completed=progress.done
            )

    def _print(self, stage: tuple[str, str], progress: "Progress") -> None:
        tenths = 10 * progress.done // max(1, progress.total)
        if self._tenths.get(stage) != tenths:
            self._tenths[stage] = tenths
            self._console.print(
                f"{progress.part} {progress.stage}: {10 * tenths} % of {progress.total / 1e6:,.1f} MB",
                soft_wrap=True,
            )
