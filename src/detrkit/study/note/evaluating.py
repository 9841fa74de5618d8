"""Every run's best weights on the whole validation split, judged by the one evaluator."""

import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.evaluation.analysis import analyse, read, write
from detrkit.evaluation.coco import to_results, write_results
from detrkit.evaluation.judged import judge
from detrkit.inference.evaluate import detect_split
from detrkit.inference.load import load
from detrkit.study.note.events import Judging
from detrkit.study.note.work import Work


def evaluate_all(work: Work) -> dict[str, Any]:
    """COCO's figures and the interval of AP of every run that has weights."""
    catalog = read_split(work.data, work.plan.data.val_split)
    found: dict[str, Any] = {}
    for name in work.plan.runs:
        if work.has_weights(name):
            folder = work.folder(name) / "evaluation"
            if not (folder / "precision_recall.npz").exists():
                work.listener(Judging(name))
                _evaluate(work, name, catalog, folder)
            kept = read(folder)
            found[name] = {**kept.metrics, "interval": kept.analysis["bootstrap"]}
    return found


def _evaluate(work: Work, name: str, catalog: Catalog, folder: Path) -> None:
    """Leave detections, figures and analysis in the folder, which gets its name when all is there."""
    settings = work.plan.runs[name].settings.data
    unfinished = folder.with_name("evaluation.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    detector = load(work.folder(name), str(PartialState().device))
    answers = detect_split(detector, catalog, batch_size=settings.batch_size, workers=settings.workers)
    results = [entry for image_id, one in answers for entry in to_results(catalog, image_id, one)]
    judged = judge(catalog, results)
    write_results(unfinished / "detections.json", results)
    write(unfinished, judged, analyse(judged))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
