"""What the doctor finds in a run."""

from pathlib import Path

from detrkit.errors import DetrkitError
from detrkit.monitoring.doctor.ailment import Ailment
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.gather import gather
from detrkit.report.content import Block, Column, Missing, Section, Table, Text, Value

_COLUMNS = [
    Column("Found"),
    Column(
        "Kind", meaning="a cause explains a low AP, a cost is time lost, a symptom is what causes look like"
    ),
    Column("Confidence", "fraction"),
    Column("Evidence"),
    Column("Try"),
]


def diagnosis_section(folder: Path, data: Path | None, *, images: bool) -> Section:
    """What is wrong with a run, the most likely cause first; with ``images``, its model is asked too."""
    try:
        facts = gather(folder, data, images=images)
    except DetrkitError as error:
        return Section("diagnosis", "Diagnosis", [Missing(f"There was no diagnosis: {error}")])
    unknown = [Missing(sentence) for sentence in facts.missing]
    return Section("diagnosis", "Diagnosis", [*_blocks(diagnose(facts)), *unknown])


def _blocks(found: list[Ailment]) -> list[Block]:
    if not found:
        return [Text("Nothing is wrong as far as the log, the detections and the data tell.")]
    rows: list[list[Value]] = [
        [one.what, one.kind, one.confidence, f"{one.evidence}.", f"{one.remedy}."] for one in found
    ]
    return [Table("The most likely cause first.", _COLUMNS, rows)]
