"""The first step: what the data is made of, and what is wrong with it."""

from typing import Any

from detrkit.data.check.examine import Depth, examine
from detrkit.data.check.findings import Finding
from detrkit.data.formats.recognise import read_split
from detrkit.data.statistics import SplitStatistics, statistics_of, suggest
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import detr_settings
from detrkit.study.note.work import Work


def check_data(work: Work) -> dict[str, Any]:
    """The splits in figures, the findings of the check, and the settings that the figures speak for."""
    named = work.plan.data
    splits = {
        split: statistics_of(read_split(work.data, split)) for split in (named.train_split, named.val_split)
    }
    queries = detr_settings(work.plan.runs[work.plan.base].settings, "A note's base").decoder.queries
    depth, findings, missing = _findings(work, queries)
    return {
        "depth": depth,
        "missing": missing,
        "splits": {name: _figures(split) for name, split in splits.items()},
        "findings": [finding.to_dict() for finding in findings],
        "suggestions": [one.__dict__ for one in suggest(splits, named.train_split)],
    }


def _findings(work: Work, queries: int) -> tuple[str, list[Finding], str]:
    """How far the check could look, what it found, and why it could not look farther."""
    depths: tuple[Depth, ...] = ("headers", "annotations")
    missing = ""
    for depth in depths:
        try:
            return depth, examine(work.data, depth=depth, queries=queries).findings, missing
        except DetrkitError as error:
            missing = str(error)
    return "none", [], missing


def _figures(split: SplitStatistics) -> dict[str, Any]:
    return {
        "images": split.images,
        "objects": split.objects,
        "crowds": split.crowds,
        "empty_images": split.empty_images,
        "most_objects": int(split.objects_of_image.max(initial=0)),
        "by_size": split.by_size(),
        "classes": dict(zip(split.names, split.objects_of_class.tolist(), strict=True)),
    }
