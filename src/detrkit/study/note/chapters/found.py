"""What a note has found so far, as its chapters read it."""

from typing import Any, NamedTuple

from detrkit.benchmark.results import Results, read_results
from detrkit.report.record import Record, read_run
from detrkit.study.curve import Point
from detrkit.study.note.family import short
from detrkit.study.note.measuring import FOLDER
from detrkit.study.note.plan import Plan
from detrkit.study.note.steps import STEPS
from detrkit.study.note.work import Work


class Found(NamedTuple):
    """The plan, what came of each step by name, the records of the runs, and what they cost."""

    plan: Plan
    results: dict[str, Any]
    records: dict[str, Record]
    benchmark: Results | None

    @property
    def trained(self) -> dict[str, dict[str, Any]]:
        """What came of each run."""
        steps = ("smaller", "larger", "grown", "tuned", "decoders", "classical")
        return {name: run for step in steps for name, run in (self.results[step] or {}).items()}

    def curve(self, name: str) -> list[Point]:
        """The validations of a run."""
        return [Point(**point) for point in self.trained[name]["curve"]]

    def groups(self) -> dict[str, list[str]]:
        """The runs that a question compares, by a title; only those that were trained."""
        plan = self.plan
        depths = [plan.base, *plan.of("larger"), *plan.of("grown")]
        groups = {
            "Backbones, and a start from the smaller one": depths,
            "Tuned settings": [plan.base, *plan.of("tuned")],
            "Decoders": [plan.base, *plan.of("decoder")],
            "Classical detectors": [plan.base, *plan.of("classical")],
        }
        known = {title: [name for name in names if name in self.trained] for title, names in groups.items()}
        return {title: names for title, names in known.items() if len(names) > 1}


def found_of(work: Work) -> Found:
    """What the folder of a note has."""
    results = {step.name: work.result(step.name) for step in STEPS}
    records = {
        name: read_run(work.folder(name))._replace(name=name)
        for name in work.plan.runs
        if (work.folder(name) / "log.jsonl").exists()
    }
    measured = read_results(work.out / FOLDER) if results["benchmark"] else None
    return Found(work.plan, results, records, measured)


def what_is(plan: Plan, name: str) -> str:
    """A run of the plan in a few words."""
    settings = plan.runs[name].settings
    backbone = short(settings.model.backbone.name).replace("r", "ResNet-")
    match plan.runs[name].role:
        case "smaller":
            return f"the base, {backbone}"
        case "larger":
            return f"the base with {backbone}, from the recipe's start"
        case "grown":
            return f"the base with {backbone}, from the weights of {plan.base}"
        case "tuned":
            return f"the base, {backbone}, with tuned learning rates and weight decay"
        case "decoder":
            return f"another decoder, {backbone}"
        case "classical":
            return f"a classical detector, {backbone}"
