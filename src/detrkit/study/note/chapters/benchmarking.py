"""Benchmarking: what the detectors cost on this machine, and what one gets for it."""

from detrkit.benchmark.results import Results
from detrkit.report.benchmark import conditions_section, cost_section, speed_section
from detrkit.report.content import Block, Drawings, Heading, Missing, Section, Text
from detrkit.report.pareto import pareto_chart, points
from detrkit.study.note.chapters.found import Found

_MEANING = (
    "All but counts are measured, on this machine, in turns; another run of this study measures something "
    "else. Those that differ in their weights alone cost the same, so one of them stands for all."
)

_PARETO = (
    "Filled marks are on the frontier, which the line joins: nobody else is at least as fast and at least as "
    "accurate. AP is that of the chapter before, whatever the precision of the latency."
)


def benchmarking_chapter(found: Found) -> Section:
    """AP over latency, what a network is and takes, and where the time goes."""
    results = found.benchmark
    if results is None or not results.rows:
        return Section("benchmarking", "Benchmarking", [Missing("Nothing was measured.")])
    blocks: list[Block] = [Text(_MEANING), *_pareto(results)]
    for section in (cost_section, speed_section, conditions_section):
        made = section(results)
        blocks += [Heading(made.title), *made.blocks]
    return Section("benchmarking", "Benchmarking", blocks)


def _pareto(results: Results) -> list[Block]:
    drawn = [
        pareto_chart(precision, known)
        for precision in results.effort.precisions
        if (known := points(results, precision))
    ]
    return [Heading("Accuracy and speed"), Text(_PARETO), Drawings(drawn)] if drawn else []
