"""Reports as files."""

from collections.abc import Sequence
from pathlib import Path

from detrkit.report.comparison import differences_section
from detrkit.report.content import Document, Section
from detrkit.report.document import report_of, report_of_several
from detrkit.report.evidence import Evidence, gather
from detrkit.report.page import to_html
from detrkit.report.record import read_run, told_apart


def make_report(folders: Sequence[Path], data: Path | None = None, *, images: bool = True) -> Document:
    """The report of a run, or of several side by side.

    ``data`` is the dataset's folder, unless ``run.json`` names it. Without ``images``, nothing is asked of
    the model and no image is opened.

    Raises:
        DetrkitError: A folder is not there, or holds no run.
    """
    found = [gather(record, data) for record in told_apart([read_run(folder) for folder in folders])]
    if len(found) > 1:
        return report_of_several([one.record for one in found], differences_section(found))
    (evidence,) = found
    return report_of(evidence.record, _pictured(evidence) if images else [])


def _pictured(evidence: Evidence) -> list[Section]:
    from detrkit.report.images import pictured_sections

    return pictured_sections(evidence)


def write_live_page(folder: Path) -> None:
    """Write ``report.html`` of the run so far into its folder, without what needs its images or its model."""
    write_page(to_html(make_report([folder], images=False)), folder / "report.html")


def write_page(html: str, path: Path) -> None:
    """Write the page at once, so that a browser never sees half of it."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(html, "utf-8")
    unfinished.replace(path)
