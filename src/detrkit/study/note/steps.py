"""The steps of a note, in order, on one page.

A step is a function from the work at hand to its result, plain values that are kept in ``results/STEP.json``.
One whose result is there is not done again. Inside a step, a training goes on from its last save, the tuning
from its last trial, evaluation and benchmark from the last run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from detrkit.study.note.comparing import compare_all
from detrkit.study.note.data import check_data
from detrkit.study.note.evaluating import evaluate_all
from detrkit.study.note.measuring import benchmark_all
from detrkit.study.note.runs import train_grown, train_role, train_tuned
from detrkit.study.note.tuning import tune_rates
from detrkit.study.note.work import Work


class Step(NamedTuple):
    """A step by its name, with what it does in words."""

    name: str
    title: str
    carry_out: Callable[[Work], Any]


STEPS = (
    Step("data", "check the data", check_data),
    Step("smaller", "train with the smaller backbone", lambda work: train_role(work, "smaller")),
    Step("larger", "train with the larger backbone", lambda work: train_role(work, "larger")),
    Step("grown", "train the larger one from the smaller one's weights", train_grown),
    Step("trials", "tune learning rates and weight decay", tune_rates),
    Step("tuned", "train with the tuned settings", train_tuned),
    Step("decoders", "train with other decoders", lambda work: train_role(work, "decoder")),
    Step("classical", "train classical detectors", lambda work: train_role(work, "classical")),
    Step("evaluation", "evaluate all on the validation split", evaluate_all),
    Step("comparison", "compare them image by image", compare_all),
    Step("benchmark", "measure what they cost", benchmark_all),
)


def done(work: Work) -> int:
    """How many steps are over."""
    return sum(work.result(step.name) is not None for step in STEPS)
