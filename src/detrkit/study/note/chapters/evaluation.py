"""Monitoring and evaluation: the doctor's findings, COCO's figures, curves, errors and classes."""

from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.gather import gather
from detrkit.report.classes import class_comparison
from detrkit.report.content import Block, Column, Heading, Missing, Section, Table, Text, Value
from detrkit.report.mistakes import compared_errors
from detrkit.report.precision_recall import overlaid_curves
from detrkit.report.record import Record
from detrkit.report.validation import twelve_figures
from detrkit.study.note.chapters.found import Found
from detrkit.study.note.work import Work


def evaluation_chapter(found: Found, work: Work) -> Section:
    """What the doctor says of each run, and how good the best weights of each are."""
    records = [found.records[name] for name in found.results["evaluation"]]
    blocks: list[Block] = [Heading("What the doctor found"), *_doctor(found, work)]
    blocks += [Heading("Accuracy"), Text(_ACCURACY), _accuracy(found), twelve_figures(records)]
    blocks += [Heading("Difference on the same images"), Text(_DIFFERENCES), _differences(found)]
    for section in (overlaid_curves(records), compared_errors(records), _classes(records)):
        blocks += [Heading(section.title), *section.blocks]
    return Section("evaluation", "Monitoring and evaluation", blocks)


_ACCURACY = (
    "Of each run's best weights by validation AP, in the precision of training, all by the same evaluator. "
    "The best was chosen on the same images, so that AP is a little too high for all."
)

_DIFFERENCES = (
    "Both runs are judged on random halves of the images again and again. Where the interval does not hold "
    "0, the difference is unlikely to be the luck of these images. That of seeds is not in it."
)


def _doctor(found: Found, work: Work) -> list[Block]:
    rows: list[list[Value]] = [
        [name, one.what, one.kind, one.confidence, f"{one.evidence}.", f"{one.remedy}."]
        for name in found.records
        for one in diagnose(gather(work.folder(name), work.data, images=False))
    ]
    if not rows:
        return [Text("Nothing is wrong as far as the logs, the detections and the data tell.")]
    columns = [Column("Run"), Column("Found"), Column("Kind"), Column("Confidence", "fraction")]
    columns += [Column("Evidence"), Column("Try")]
    return [Table("Of each run, the most likely cause first.", columns, rows)]


def _accuracy(found: Found) -> Table:
    rows: list[list[Value]] = [
        [name, figures["AP"], figures["interval"]["low"], figures["interval"]["high"]]
        for name, figures in found.results["evaluation"].items()
    ]
    columns = [Column("Run"), *(Column(name, "fraction") for name in ("AP", "95 % from", "to"))]
    return Table("AP on the validation split, with its interval by resampling the images.", columns, rows)


def _differences(found: Found) -> Block:
    rows: list[list[Value]] = [
        [f"{pair['name']} less {pair['against']}", *(pair[key][part] for key in _PAIRED for part in _PARTS)]
        for pair in found.results["comparison"]
    ]
    if not rows:
        return Missing("There are no two runs to compare.")
    columns = [Column("Runs")]
    for figure in _PAIRED:
        columns += [Column(figure, "signed"), Column("95 % from", "signed"), Column("to", "signed")]
    return Table("Differences in AP and AP50, with their 95 % intervals.", columns, rows)


_PAIRED, _PARTS = ("AP", "AP50"), ("value", "low", "high")


def _classes(records: list[Record]) -> Section:
    return class_comparison(records)
