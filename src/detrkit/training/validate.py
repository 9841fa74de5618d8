"""Validation during training: every process detects in its share of the images, then all are counted once."""

from accelerate.utils import gather_object

from detrkit.evaluation.coco import Metrics, evaluate_results, to_results
from detrkit.inference.evaluate import detect_split
from detrkit.training.prepare import Run


def validation_metrics(run: Run) -> Metrics:
    """COCO's figures of what the run would keep, on the whole validation split."""
    found = detect_split(
        run.judged,
        run.validation,
        batch_size=run.experiment.data.batch_size,
        workers=run.experiment.data.workers,
        precision=run.experiment.train.precision,
        rank=run.accelerator.process_index,
        world=run.accelerator.num_processes,
    )
    mine = [
        result
        for image_id, detections in found
        for result in to_results(run.validation, image_id, detections)
    ]
    return evaluate_results(run.validation, gather_object(mine))
