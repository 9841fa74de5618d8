"""Architecture: who takes part, and in which settings they differ."""

from detrkit.report.content import Block, Column, Heading, Section, Table, Text, Value
from detrkit.report.differences import between
from detrkit.study.note.chapters.found import Found, what_is


def architecture_chapter(found: Found) -> Section:
    """Every run with its parameters, what the grown one carried over, and the settings that differ."""
    rows: list[list[Value]] = []
    for name, record in found.records.items():
        header = record.header
        counts = header.get("parameters"), header.get("trainable_parameters")
        rows.append([name, what_is(found.plan, name), *counts])
    columns = [Column("Run"), Column("What it is"), Column("Parameters", "count"), Column("Trained", "count")]
    asked = found.plan.asked
    blocks: list[Block] = [
        Text(
            f"The base is the recipe {asked['recipes'][0]}. All have the same images in the same order, and "
            "the same pixels, batches, precision and averaging of weights. Whatever else differs is below."
        ),
        Table("What is compared.", columns, rows),
    ]
    grown = [run for run in (found.results["grown"] or {}).values() if run.get("account")]
    for run in grown:
        blocks += [Heading("What was carried over"), _account(run["account"])]
    differing = between(list(found.records.values()))
    return Section("architecture", "Architecture", [*blocks, Heading(differing.title), *differing.blocks])


def _account(lines: list[list[Value]]) -> Table:
    columns = [Column("Part"), Column("What"), Column("Tensors", "count"), Column("Elements", "count")]
    return Table("The tensors of both sides.", [*columns, Column("Reason")], lines)
