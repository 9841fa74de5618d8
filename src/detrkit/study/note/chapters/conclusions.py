"""Conclusions: what the measurements say, question by question."""

from detrkit.report.content import Block, Heading, Section, Text
from detrkit.study.note.chapters.found import Found
from detrkit.study.note.comparing import QUESTIONS, pairs_of
from detrkit.study.note.conclusions import (
    Conclusion,
    accuracy_conclusions,
    lacking_conclusions,
    time_conclusions,
    tuning_conclusions,
)

_ABOUT = (
    "Every sentence is computed from the figures above. An interval tells how far the luck of the validation "
    "images reaches, not that of seeds. There are {number} comparisons, each in AP and in AP50; of twenty at "
    "95 % one or two look like a difference where there is none, since the intervals are a little narrow."
)


_TIMES = (
    "These are of one machine at one time. The interval goes from the fastest to the slowest turn; where two "
    "overlap, nothing is concluded."
)


def conclusions_of(found: Found) -> list[Conclusion]:
    """All sentences about accuracy."""
    plan, results = found.plan, found.results
    tuned = plan.name_of("tuned") is not None
    return [
        *accuracy_conclusions(results["comparison"], results["evaluation"], found.trained),
        *lacking_conclusions(list(pairs_of(plan)), results["comparison"], found.trained),
        *tuning_conclusions(results["trials"], plan.trials.number, tuned=tuned),
    ]


def times_of(found: Found) -> list[Conclusion]:
    """All sentences about measured times."""
    return [] if found.benchmark is None else time_conclusions(found.benchmark, found.plan.base)


def conclusions_chapter(found: Found) -> Section:
    """The sentences about accuracy under their questions, then those about measured times."""
    sentences = conclusions_of(found)
    blocks: list[Block] = [Text(_ABOUT.format(number=len(found.results["comparison"])))]
    for question, title in QUESTIONS.items():
        told = [one.sentence for one in sentences if one.question == question]
        if told:
            blocks += [Heading(title), *map(Text, told)]
    times = times_of(found)
    if times:
        blocks += [Heading("Measured times"), Text(_TIMES), *(Text(one.sentence) for one in times)]
    return Section("conclusions", "Conclusions", blocks)
