"""Reports as files."""

from collections.abc import Sequence
from pathlib import Path

from detrkit.report.comparison import differences_section
from detrkit.report.content import Document, Section
from detrkit.report.diagnosis import diagnosis_section
from detrkit.report.document import report_of, report_of_several, without_pictures
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
    return _of_one(found[0], images, data)


def _of_one(evidence: Evidence, images: bool, data: Path | None = None) -> Document:
    diagnosis = diagnosis_section(evidence.record.folder, data, images=images)
    pictured = _pictured(evidence) if images else without_pictures(_LEFT_OUT)
    return report_of(evidence.record, diagnosis, pictured)


_LEFT_OUT = "This page was made without opening an image: the command detrkit report RUN makes it with them."


def _pictured(evidence: Evidence) -> list[Section]:
    from detrkit.report.images import pictured_sections

    return pictured_sections(evidence)


def write_run_page(folder: Path, images: bool) -> None:
    """Write ``report.html`` of a run into its folder, and the analysis that it shows into ``evaluation/``.

    Without ``images``, what needs these and the model is left out.
    """
    evidence = gather(read_run(folder))
    evidence.keep()
    write_page(to_html(_of_one(evidence, images)), folder / "report.html")


def write_page(html: str, path: Path) -> None:
    """Write the page at once, so that a browser never sees half of it."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(html, "utf-8", errors="backslashreplace")
    unfinished.replace(path)
