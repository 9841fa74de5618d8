"""Everything that is said about a split's detections, made from one ``Judged``, and the files that keep it.

What has to be counted at one IoU is counted at the lowest that was judged: COCO's is 0.5.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from detrkit.errors import DetrkitError
from detrkit.evaluation.bootstrap import Interval, interval
from detrkit.evaluation.calibration import Calibration, calibration
from detrkit.evaluation.coco import num_objects
from detrkit.evaluation.confusion import Confusion, confusion
from detrkit.evaluation.curves import Curves, curves, read_curves, write_curves
from detrkit.evaluation.errors import ErrorTypes, error_types
from detrkit.evaluation.judged import Judged
from detrkit.evaluation.operating import OperatingPoints, Sweep, operating_points, sweep
from detrkit.evaluation.overlap import Overlap, overlap
from detrkit.evaluation.plain import plain
from detrkit.evaluation.stated import read_analysis, read_metrics


class Counted(NamedTuple):
    """What was judged: with other IoUs or limits than COCO's, figures are not comparable with others'."""

    ious: tuple[float, ...]
    max_detections: tuple[int, ...]
    classes: tuple[str, ...]
    images: int
    objects: int
    crowds: int
    detections: int


class Analysis(NamedTuple):
    """All results over one ``Judged``. ``calibration`` is None where scores are no probabilities."""

    counted: Counted
    curves: Curves
    operating: OperatingPoints
    sweep: Sweep
    overlap: Overlap
    confusion: Confusion
    calibration: Calibration | None
    errors: ErrorTypes
    bootstrap: Interval

    def to_dict(self) -> dict[str, Any]:
        """The results but for the curves, by their names, as json has them; what is no number is None.

        What there is of each class stands together: ``per_class`` is name -> threshold, precision, recall, f1
        (where F1 is best), mean_iou, calibration_error.
        """
        calibrated = self.calibration and _without_classes(self.calibration.to_dict())
        return {
            **plain(self.counted._asdict()),
            "operating": _without_classes(self.operating.to_dict()),
            "sweep": self.sweep.to_dict(),
            "overlap": _without_classes(self.overlap.to_dict()),
            "confusion": self.confusion.to_dict(),
            "calibration": calibrated,
            "errors": plain(self.errors.to_dict(list(self.counted.classes))),
            "bootstrap": plain(self.bootstrap._asdict()),
            "per_class": {name: plain(self._of_class(name)) for name in self.counted.classes},
        }

    def _of_class(self, name: str) -> dict[str, Any]:
        return {
            **self.operating.per_class[name]._asdict(),
            "mean_iou": self.overlap.per_class[name],
            "calibration_error": self.calibration and self.calibration.per_class[name],
        }


class Kept(NamedTuple):
    """What ``write`` left in a folder: the two json files as they are, and the curves."""

    metrics: dict[str, Any]
    analysis: dict[str, Any]
    curves: Curves


def analyse(judged: Judged, *, resamples: int = 1000, seed: int = 0) -> Analysis:
    """All results at the lowest IoU; the confusion matrix has the score with the best F1 overall.

    ``resamples`` and ``seed`` are those of the bootstrap interval.
    """
    operating = operating_points(judged)
    return Analysis(
        counted=_counted(judged),
        curves=curves(judged),
        operating=operating,
        sweep=sweep(judged),
        overlap=overlap(judged),
        confusion=confusion(judged, operating.overall.threshold),
        calibration=calibration(judged),
        errors=error_types(judged, iou=judged.ious[0]),
        bootstrap=interval(judged, resamples=resamples, seed=seed),
    )


def write(folder: Path, judged: Judged, analysis: Analysis) -> None:
    """Write ``metrics.json``, ``analysis.json`` and ``precision_recall.npz`` (see ``write_curves``)."""
    for name, figures in (("metrics", judged.metrics.to_dict()), ("analysis", analysis.to_dict())):
        text = json.dumps(
            figures, ensure_ascii=False, allow_nan=False, indent=2 if name == "metrics" else None
        )
        (folder / f"{name}.json").write_text(f"{text}\n", "utf-8")
    write_curves(folder / "precision_recall.npz", analysis.curves)


def read(folder: Path) -> Kept:
    """What ``write`` wrote there."""
    metrics = _read(folder / "metrics.json", read_metrics)
    analysis = _read(folder / "analysis.json", read_analysis)
    return Kept(metrics, analysis, read_curves(folder / "precision_recall.npz"))


def _counted(judged: Judged) -> Counted:
    catalog = judged.catalog
    return Counted(
        ious=judged.ious,
        max_detections=judged.max_detections,
        classes=tuple(category.name for category in catalog.categories),
        images=len(catalog),
        objects=int(num_objects(catalog).sum()),
        crowds=int(catalog.crowds.sum()),
        detections=len(judged.found.scores),
    )


def _without_classes(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "per_class"}


def _read(path: Path, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise DetrkitError(f"{path}: no evaluation can be read there ({error}): evaluate again.") from None
