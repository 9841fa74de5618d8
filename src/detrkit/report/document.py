"""The sections of a report, in order: what can be told is told, and the rest says what is missing."""

from collections.abc import Sequence

from detrkit.report.calibration import calibration_section
from detrkit.report.classes import class_comparison, class_table
from detrkit.report.content import Document, Missing, Section
from detrkit.report.differences import between, from_recipe
from detrkit.report.fit import fit_section
from detrkit.report.mistakes import compared_errors, mistakes_section
from detrkit.report.overview import overview, side_by_side, summary
from detrkit.report.precision_recall import overlaid_curves, precision_recall_section
from detrkit.report.record import Record
from detrkit.report.training import training_section
from detrkit.report.validation import validation_section

PICTURED = {"images": "Worst and best images", "attention": "Attention", "queries": "Queries"}
"""The titles of the sections that need a run's images and its model."""


def without_pictures(why: str) -> list[Section]:
    """These sections, where nothing of them is to be had."""
    return [Section(name, title, [Missing(why)]) for name, title in PICTURED.items()]


def report_of(record: Record, diagnosis: Section, pictured: Sequence[Section]) -> Document:
    """All about one run; ``pictured`` are the sections that need its images and its model."""
    sections = [
        overview(record),
        diagnosis,
        training_section([record]),
        validation_section([record]),
        precision_recall_section(record),
        fit_section(record),
        mistakes_section(record),
        calibration_section(record),
        *pictured,
        class_table(record),
        from_recipe(record),
    ]
    return Document(f"Report of {record.name}", summary(record), sections)


def report_of_several(records: Sequence[Record], differences: Section) -> Document:
    """Several runs: curves in one chart, figures side by side, and what differs.

    ``differences`` says how sure one can be that one run is better than another.
    """
    names = [record.name for record in records]
    sections = [
        side_by_side(records),
        differences,
        training_section(records),
        validation_section(records),
        overlaid_curves(records),
        compared_errors(records),
        class_comparison(records),
        between(records),
    ]
    summary = (
        f"{len(records)} runs side by side. The report of each alone has more: images, boxes, calibration."
    )
    return Document(" and ".join([", ".join(names[:-1]), names[-1]]), summary, sections)
