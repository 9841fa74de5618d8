"""``detrkit report``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from detrkit.cli.options import output_folder
from detrkit.cli.say import say
from detrkit.errors import DetrkitError

Data = Annotated[
    Path | None, typer.Option(help="The dataset's folder, unless it is still where the run found it.")
]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, or those of evaluate --out.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Unless set: report.html in the run folder; comparison.html here for several.",
        ),
    ] = None,
    kind: Annotated[Literal["html", "md"], typer.Option("--format", help="HTML page or Markdown.")] = "html",
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Open no image and ask nothing of the model: quicker.")
    ] = False,
    data: Data = None,
) -> None:
    """Write one page about a run, or about several side by side.

    The HTML page is one file that needs no network and no script. In Markdown, charts and pictures are files
    in the folder FILE_files beside it.
    """
    from detrkit.report.markdown import write_markdown
    from detrkit.report.page import to_html
    from detrkit.report.write import make_report, write_page

    path = out or (runs[0] / f"report.{kind}" if len(runs) == 1 else Path(f"comparison.{kind}"))
    if path.is_dir():
        raise DetrkitError(f"--out {path} is a folder: name a file, such as {path / f'report.{kind}'}.")
    document = make_report(runs, data, images=not without_images)
    output_folder(path.parent)
    if kind == "md":
        write_markdown(document, path)
    else:
        write_page(to_html(document), path)
    say(f"Wrote {path} ({path.stat().st_size / 1e6:.1f} MB).")
