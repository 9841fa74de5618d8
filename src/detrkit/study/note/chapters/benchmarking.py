"""Benchmarking: what the detectors cost on this machine, and what one gets for it."""

from detrkit.report.benchmark import conditions_section, cost_section, pareto_section, speed_section
from detrkit.report.content import Block, Heading, Missing, Section, Text
from detrkit.study.note.chapters.found import Found

_MEANING = (
    "All but counts are measured, on this machine, in turns; another run of this study will measure "
    "something else. Those that differ in their weights alone cost the same, so one of them stands for all."
)


def benchmarking_chapter(found: Found) -> Section:
    """AP over latency, what a network is and takes, and where the time goes."""
    results = found.benchmark
    if results is None or not results.rows:
        return Section("benchmarking", "Benchmarking", [Missing("Nothing was measured.")])
    blocks: list[Block] = [Text(_MEANING)]
    for section in (pareto_section, cost_section, speed_section, conditions_section):
        made = section(results)
        blocks += [Heading(made.title), *made.blocks]
    return Section("benchmarking", "Benchmarking", blocks)
