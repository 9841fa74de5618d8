"""Reports as files."""

from pathlib import Path

from detrkit.report.document import report_of
from detrkit.report.page import to_html
from detrkit.report.record import read_run


def write_live_page(folder: Path) -> None:
    """Write ``report.html`` of the run so far into its folder, without what needs its images or its model."""
    write_page(to_html(report_of(read_run(folder))), folder / "report.html")


def write_page(html: str, path: Path) -> None:
    """Write the page at once, so that a browser never sees half of it."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(html, "utf-8")
    unfinished.replace(path)
