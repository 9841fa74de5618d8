"""Every run's best weights on the whole validation split, judged by the one evaluator."""

import shutil
from pathlib import Path
from typing import Any

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.evaluation.analysis import analyse, read, write
from detrkit.evaluation.coco import read_results
from detrkit.evaluation.judged import judge
from detrkit.study.note.events import Judging
from detrkit.study.note.work import Work


def evaluate_all(work: Work) -> dict[str, Any]:
    """COCO's figures and the interval of AP of every run that has weights.

    What the best weights detect in all images was kept when they were validated.
    """
    catalog = read_split(work.data, work.plan.data.val_split)
    found: dict[str, Any] = {}
    for name in work.plan.runs:
        if work.has_weights(name):
            folder = work.folder(name) / "evaluation"
            if not (folder / "precision_recall.npz").exists():
                work.listener(Judging(name))
                _judge(catalog, folder)
            kept = read(folder)
            found[name] = {**kept.metrics, "interval": kept.analysis["bootstrap"]}
    return found


def _judge(catalog: Catalog, folder: Path) -> None:
    """Leave figures and analysis beside the detections, the last of them only when all is there."""
    judged = judge(catalog, read_results(folder / "detections.json", catalog))
    unfinished = folder.with_name("evaluation.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    write(unfinished, judged, analyse(judged))
    for file in ("metrics.json", "analysis.json", "precision_recall.npz"):
        (unfinished / file).replace(folder / file)
    unfinished.rmdir()
