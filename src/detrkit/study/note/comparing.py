"""Which run is better than which, on the same images resampled."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from detrkit.data.formats.recognise import read_split
from detrkit.evaluation.bootstrap import paired_difference
from detrkit.evaluation.coco import read_results
from detrkit.evaluation.judged import Judged, judge
from detrkit.study.note.plan import Plan
from detrkit.study.note.work import Work


class Pair(NamedTuple):
    """A question, which a run answers against another."""

    question: str
    name: str
    against: str


QUESTIONS = {
    "depth": "Is the larger backbone better?",
    "transfer": "Does a start from the smaller one's weights help?",
    "tuning": "Do the tuned settings help?",
    "decoders": "Does another decoder learn more in the same time?",
    "classics": "How do the classical detectors compare?",
}


def pairs_of(plan: Plan) -> Iterator[Pair]:
    """What is compared with what, in the order of the note's questions."""
    base, larger = plan.base, plan.name_of("larger")
    if larger is not None:
        yield Pair("depth", larger, base)
        yield from (Pair("transfer", name, larger) for name in plan.of("grown"))
    yield from (Pair("tuning", name, base) for name in plan.of("tuned"))
    yield from (Pair("decoders", name, base) for name in plan.of("decoder"))
    yield from (Pair("classics", name, base) for name in plan.of("classical"))


def compare_all(work: Work) -> list[dict[str, Any]]:
    """The difference in AP and in AP50 of every pair whose runs were evaluated, with its 95 % interval."""
    catalog = read_split(work.data, work.plan.data.val_split)
    evaluated = work.result("evaluation")

    @functools.cache
    def judged(name: str) -> Judged:
        return judge(catalog, read_results(work.folder(name) / "evaluation/detections.json", catalog))

    found: list[dict[str, Any]] = []
    for pair in pairs_of(work.plan):
        if pair.name in evaluated and pair.against in evaluated:
            sides = judged(pair.name), judged(pair.against)
            differences = {
                "AP": paired_difference(*sides)._asdict(),
                "AP50": paired_difference(*sides, iou=0.5)._asdict(),
            }
            found.append({**pair._asdict(), **differences})
    return found
