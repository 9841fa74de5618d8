"""A detector's answers for a split of a dataset, and how good they are."""

from collections.abc import Iterator

from detrkit.catalog import Catalog, require_same_categories
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.loader import evaluation_batches
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detector import Detector
from detrkit.evaluation.coco import Metrics, Result, evaluate_results, to_results
from detrkit.inference.detect import detect
from detrkit.inference.precision import Precision
from detrkit.structures import Detections


def detect_split(
    detector: Detector,
    catalog: Catalog,
    *,
    batch_size: int = 1,
    workers: int = 0,
    precision: Precision = "fp32",
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[int, Detections]]:
    """(image id, what was found) for this process's share of the images, as they are done.

    The shares of ranks ``0..world-1`` together are every image once.

    Raises:
        DetrkitError: The categories differ from the detector's, or an image is missing or damaged.
    """
    require_same_categories(catalog.categories, detector.categories, where=str(catalog.source))
    require_images(catalog)
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    batches = evaluation_batches(dataset, batch_size=batch_size, workers=workers, rank=rank, world=world)
    return (
        found
        for batch in batches
        for found in zip(
            batch.image_ids, detect(detector, batch.images, batch.original_sizes, precision), strict=True
        )
    )


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
