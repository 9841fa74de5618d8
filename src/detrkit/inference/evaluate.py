"""A detector's answers for a split of a dataset, and how good they are."""

import logging
from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from detrkit.catalog import Catalog, LabelMap, map_labels
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.loader import evaluation_batches, telling_of_ended_workers
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detector import Detector
from detrkit.evaluation.coco import Metrics, Result, evaluate_results, to_results
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.inference.precision import Precision
from detrkit.structures import Batch, Detections, Unread

logger = logging.getLogger(__name__)


def detect_split(
    detector: Detector,
    catalog: Catalog,
    *,
    batch_size: int = 1,
    workers: int = 0,
    precision: Precision = "fp32",
    rank: int = 0,
    world: int = 1,
    unread: list[Unread] | None = None,
) -> Iterator[tuple[int, Detections]]:
    """(image id, what was found) for this process's share of the images, as they are done.

    The shares of ranks ``0..world-1`` together are every image once. Labels are the dataset's: a
    detector's are mapped by the categories' names, and what the dataset has no class for falls out.
    Classes that only one of both knows are said in a warning. The detector is copied, as it is now. Images
    that cannot be read are put into ``unread`` and left out, if there is such a list.

    Raises:
        DetrkitError: No category is the detector's too, or an image is missing or damaged.
    """
    mapped = map_labels(detector.categories, catalog.categories, where=str(catalog.source))
    _warn(mapped, catalog)
    if unread is None:
        require_images(catalog)
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    answering = frozen(detector, precision)
    batches = evaluation_batches(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=rank,
        world=world,
        blank_unread=unread is not None,
    )
    found = (
        (image_id, _relabelled(detections, torch.from_numpy(mapped.labels)))
        for batch in _noting(batches, unread)
        for image_id, detections in zip(
            batch.image_ids, detect(answering, batch.images, batch.original_sizes, precision), strict=True
        )
        if image_id not in {one.image_id for one in batch.unread}
    )
    return _telling(found)


def evaluate(
    detector: Detector,
    catalog: Catalog,
    *,
    batch_size: int = 1,
    workers: int = 0,
    precision: Precision = "fp32",
) -> tuple[Metrics, list[Result]]:
    """COCO's figures for a detector on all images of a split, and the detections that they come from.

    Raises:
        DetrkitError: As ``detect_split``.
    """
    found = detect_split(detector, catalog, batch_size=batch_size, workers=workers, precision=precision)
    results = [entry for image_id, detections in found for entry in to_results(catalog, image_id, detections)]
    return evaluate_results(catalog, results), results


def _warn(mapped: LabelMap, catalog: Catalog) -> None:
    if mapped.lacking:
        lacking = f"{len(mapped.lacking)} of the {len(catalog.categories)} categories of {catalog.source}"
        logger.warning("%s are unknown to the detector: %s.", lacking, ", ".join(mapped.lacking))
    if mapped.dropped:
        dropped = f"{len(mapped.dropped)} categories that {catalog.source} does not have"
        logger.warning("What is found of %s is not counted: %s.", dropped, ", ".join(mapped.dropped))


def _telling(found: Iterator[tuple[int, Detections]]) -> Iterator[tuple[int, Detections]]:
    with telling_of_ended_workers():
        yield from found


def _noting(batches: Iterator[Batch], unread: list[Unread] | None) -> Iterator[Batch]:
    """The batches, while the images that they lack are put into the list."""
    for batch in batches:
        if unread is not None:
            unread += batch.unread
        yield batch


def _relabelled(detections: Detections, labels: Int[Tensor, " own"]) -> Detections:
    """The detections under the labels of a dataset, without those that it has no class for."""
    mapped = labels[detections.labels]
    kept = mapped >= 0
    return Detections(detections.boxes[kept], detections.scores[kept], mapped[kept])
