"""What ``detrkit evaluate`` prints below COCO's 12 lines."""

from collections.abc import Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from detrkit.evaluation.analysis import Analysis
from detrkit.evaluation.coco import COCO_IOUS, MAX_DETECTIONS, Metrics
from detrkit.evaluation.errors import ERRORS
from detrkit.evaluation.judged import Judged


def deviations(judged: Judged, num_classes: int) -> Iterator[str]:
    """Why the figures cannot be compared with COCO's, if they cannot, of a dataset with so many classes."""
    reasons = []
    if judged.ious != COCO_IOUS:
        reasons.append(f"IoU {', '.join(f'{iou:.2f}' for iou in judged.ious)} instead of 0.50:0.95")
    if judged.max_detections[-1] != MAX_DETECTIONS[-1]:
        reasons.append(f"{judged.max_detections[-1]} detections per image and class instead of 100")
    if len(judged.catalog.categories) < num_classes:
        reasons.append(f"{len(judged.catalog.categories)} of {num_classes} classes")
    if reasons:
        yield f"Not comparable with COCO's figures: {'; '.join(reasons)}."


def class_table(metrics: Metrics, analysis: Analysis) -> Table:
    """A line for each class: AP of its kinds, what the best F1 of its own has, and mean IoU."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("Class", overflow="fold")
    for heading in ("Objects", "AP", "AP50", "APs", "APm", "APl", "P", "R", "F1", "Score", "IoU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, ap in metrics.per_class.items():
        best = analysis.operating.per_class[name]
        figures = (
            ap.AP,
            ap.AP50,
            ap.APs,
            ap.APm,
            ap.APl,
            best.precision,
            best.recall,
            best.f1,
            best.threshold,
        )
        cells = map(_figure, (*figures, analysis.overlap.per_class[name]))
        table.add_row(escape(name), f"{ap.objects:,}", *cells)
    return table


def analysis_lines(analysis: Analysis) -> Iterator[str]:
    """All classes together, a line for each question."""
    best, fit = analysis.operating.overall, analysis.overlap
    at = f"IoU {analysis.operating.iou:.2f}"
    yield (
        f"Best F1 at {at}: {_figure(best.f1)} with scores from {_figure(best.threshold)} "
        f"(precision {_figure(best.precision)}, recall {_figure(best.recall)})"
    )
    sizes = ", ".join(f"{name} {_figure(mean)}" for name, mean in fit.per_size.items())
    yield f"IoU of the {fit.matched:,} detections matched at {at}: {_figure(fit.mean)} ({sizes})"
    kept = [place for place, iou in enumerate(fit.ious) if round(iou * 100) % 10 == 0 or len(fit.ious) < 5]
    recalls = ", ".join(f"{_figure(fit.recall['all'][place])} at {fit.ious[place]:.2f}" for place in kept)
    yield f"Recall over IoU: {recalls}"
    pairs = ", ".join(f"{true} as {found} {count:,}" for true, found, count in analysis.confusion.pairs(3))
    yield f"Most often confused, with these scores: {pairs or 'none'}"
    calibrated = analysis.calibration
    yield (
        f"Calibration error (ECE) at {at}: {_figure(calibrated.error)}"
        if calibrated
        else "Calibration: none, since scores lie outside 0..1"
    )
    errors = analysis.errors
    costs = ", ".join(f"{name} {cost:.3f}" for name, cost in zip(ERRORS, errors.costs, strict=True))
    yield f"What errors cost, in AP at {at} (TIDE; they do not add up): {costs if errors.AP >= 0 else '-'}"
    interval = analysis.bootstrap
    yield (
        f"AP {_figure(interval.value)}, 95 % interval {_figure(interval.low)} to {_figure(interval.high)} "
        f"({interval.resamples:,} resamples of half of the images)"
    )


def _figure(value: float) -> str:
    # -1 and NaN are figures of nothing
    return f"{value:.3f}" if value >= 0 else "-"
