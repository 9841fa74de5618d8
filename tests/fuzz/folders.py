"""A run's folder and a note's plan as small as they can be, and all that reads them but for what draws."""

import json
from pathlib import Path

from detrkit.benchmark.results import Effort
from detrkit.catalog import Catalog
from detrkit.errors import DetrkitError
from detrkit.evaluation.analysis import analyse, write
from detrkit.evaluation.coco import Result
from detrkit.evaluation.judged import judge
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.gather import gather as examine
from detrkit.monitoring.jsonl import as_line
from detrkit.report.classes import class_comparison, class_table
from detrkit.report.content import Section, Table, show
from detrkit.report.differences import between, from_recipe
from detrkit.report.evidence import gather
from detrkit.report.overview import overview, side_by_side, summary
from detrkit.report.record import read_run, told_apart
from detrkit.report.validation import figures_section
from detrkit.settings.experiment import recipe, to_toml
from detrkit.study.note.family import members_of
from detrkit.study.note.plan import Data, Plan, Run, read_plan, write_plan
from detrkit.study.note.shares import Amount, Trials
from detrkit.training.events import Finished, Stepped, Validated


def write_run_folder(folder: Path, catalog: Catalog) -> None:
    """A run of twelve steps and four validations, whose data is gone."""
    box = [1.0, 2.0, 3.0, 4.0]
    results: list[Result] = [
        {"image_id": int(image), "category_id": category.id, "bbox": box, "score": 0.5 + place / 10}
        for image in catalog.image_ids
        for place, category in enumerate(catalog.categories)
    ]
    judged = judge(catalog, results)
    (folder / "evaluation").mkdir(parents=True)
    write(folder / "evaluation", judged, analyse(judged))
    events: list[Stepped | Validated | Finished] = []
    for step in range(1, 13):
        groups, terms = {"backbone": 0.5, "rest": 0.1}, {"giou": [0.9, 1 / step], "class_error": [90.0, 80.0]}
        events.append(
            Stepped(step, step / 3, 3 / step, terms, 1.0, groups, groups, groups, 2, 0.5, 0.1, 2**20)
        )
        if step % 3 == 0:
            matched = [[1, step], [0, 2]]
            events.append(Validated(step, step / 3, judged.metrics, True, 1.0, judged.metrics, 0.1, matched))
    events.append(Finished(12, 0.1, 12, "every step is done", folder))
    (folder / "log.jsonl").write_text("".join(json.dumps(as_line(event)) + "\n" for event in events))
    (folder / "experiment.toml").write_text(to_toml(recipe("shapes")))
    header = {
        "recipe": "shapes",
        "command": "detrkit train shapes",
        "data": str(folder / "gone"),
        "splits": {"train": "train", "val": "val"},
        "images": {"train": 2, "val": 2},
        "machine": {"processor": "a fast one", "cores": "2", "threads": "1", "device": "cpu"},
        "versions": {"torch": "2.6"},
        "steps": 12,
        "parameters": 1000,
        "trainable_parameters": 900,
        "notes": ["Images are small."],
        "started": "2026-01-01T00:00:00+00:00",
        "resumed": [{"step": 3}],
        "state": "finished",
        "seconds": 7.5,
        "peak_memory": 2**30,
    }
    (folder / "run.json").write_text(json.dumps(header))


def read_run_folder(folder: Path, name: str) -> None:
    """What report, compare and doctor do with it; what is told as damaged counts as a refusal."""
    record = gather(read_run(folder)).record
    summary(record)
    for section in (overview(record), class_table(record), from_recipe(record)):
        _show(section)
    records = told_apart([record, record])
    for section in (
        side_by_side(records),
        figures_section(records),
        class_comparison(records),
        between(records),
    ):
        _show(section)
    for ailment in diagnose(examine(folder, images=False)):
        ailment.sentence.encode()
    if record.damaged:
        raise DetrkitError(f"{record.damaged[0]}.")


def _show(section: Section) -> None:
    """Write a section as the page and the terminal do."""
    for block in section.blocks:
        if isinstance(block, Table):
            for row in block.rows:
                "".join(map(show, row, (column.kind for column in block.columns))).encode()
        else:
            repr(block).encode()


def write_note_plan(folder: Path) -> None:
    """The plan of a note of two runs."""
    members = members_of(("shapes",), ("resnet18", "resnet34"), {})
    runs = {name: Run(member.role, Amount(9, 2, 3.0), member.settings) for name, member in members.items()}
    asked = {"plan": "note", "recipes": ["shapes"], "backbones": ["resnet18", "resnet34"], "budget": "2h"}
    plan = Plan(
        asked=asked | {"seed": 0, "set": {"optim.lr": 1e-3}},
        command="detrkit study",
        data=Data("train", "val", 20, 5, ["cat"], "1f", "2e"),
        machine={"threads": "1"},
        paces={"r18": {"step": 0.5}},
        trials=Trials(5, 30),
        effort=Effort(),
        runs={name: runs[name] for name in list(runs)[:2]},
    )
    write_plan(folder / "plan.json", plan)


def read_note_plan(folder: Path, name: str) -> None:
    """The plan, and what it names: folders inside of the study's."""
    plan = read_plan(folder / name)
    for run in plan.runs:
        assert (folder / run).parent == folder
        (folder / run).exists()
