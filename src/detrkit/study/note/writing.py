"""What a note leaves for people and programs: ``report.html``, ``report.md`` and ``results.json``."""

from typing import Any

from detrkit.report.content import Document
from detrkit.report.markdown import write_markdown
from detrkit.report.page import to_html
from detrkit.report.write import write_page
from detrkit.study.note.chapters.architecture import architecture_chapter
from detrkit.study.note.chapters.benchmarking import benchmarking_chapter
from detrkit.study.note.chapters.conclusions import conclusions_chapter, conclusions_of, times_of
from detrkit.study.note.chapters.data import data_chapter
from detrkit.study.note.chapters.evaluation import evaluation_chapter
from detrkit.study.note.chapters.found import Found, found_of
from detrkit.study.note.chapters.training import training_chapter
from detrkit.study.note.work import Work, write_json


def write_note(work: Work) -> Found:
    """Write the report of a note whose steps are over, and its figures."""
    found = found_of(work)
    write_json(work.out / "results.json", results_of(found))
    document = document_of(found, work)
    write_page(to_html(document), work.out / "report.html")
    write_markdown(document, work.out / "report.md")
    return found


def results_of(found: Found) -> dict[str, Any]:
    """All figures. What is under ``accuracy`` and ``conclusions`` follows from the plan, times do not."""
    return {
        "command": found.plan.command,
        "plan": found.plan.asked,
        "data": found.plan.data._asdict(),
        "machine": found.plan.machine,
        "accuracy": found.results["evaluation"],
        "differences": found.results["comparison"],
        "conclusions": [one._asdict() for one in conclusions_of(found)],
        "measured_times": [one._asdict() for one in times_of(found)],
        "runs": found.trained,
        "trials": found.results["trials"],
    }


def document_of(found: Found, work: Work) -> Document:
    """The note as a report."""
    data, base = found.plan.data, found.plan.base
    figures = found.results["evaluation"].get(base)
    ap = f" The base has AP {figures['AP']:.3f}." if figures else ""
    summary = (
        f"{len(found.trained)} detectors on the same {data.train_images:,} images to train on and "
        f"{data.val_images:,} to validate on.{ap}"
    )
    return Document(
        f"Detectors compared on {work.data.resolve().name}",
        summary,
        [
            data_chapter(found),
            architecture_chapter(found),
            training_chapter(found),
            evaluation_chapter(found, work),
            benchmarking_chapter(found),
            conclusions_chapter(found),
        ],
    )
