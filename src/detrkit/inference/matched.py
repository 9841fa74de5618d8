"""Which query answers for which object in a few images: what unstable matching is told from."""

from itertools import pairwise

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.loader import evaluation_batches
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.inference.noted import noted
from detrkit.inference.precision import Precision
from detrkit.objective.matching import match
from detrkit.structures import DetrOutput, Objects

NO_QUERY = -1
"""In place of the query of an object that has none: its image has more than queries, or cannot be read."""


def matched_queries(
    detector: DetrDetector,
    catalog: Catalog,
    *,
    every: int = 1,
    batch_size: int = 1,
    precision: Precision = "fp32",
    rank: int = 0,
    world: int = 1,
    blank_unread: bool = False,
) -> list[tuple[int, list[int]]]:
    """(image id, the query of the last decoder layer for each object) of every ``every``-th image of a split.

    Images are shown as evaluation shows them, and the detector is copied as it is now: the same weights give
    the same queries. The shares of ranks ``0..world-1`` together are all of these images. With
    ``blank_unread``, the objects of an image that cannot be read have no query.

    Raises:
        DetrkitError: An image cannot be read, or an answer is not finite.
    """
    answering = frozen(detector, precision)
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    batches = evaluation_batches(
        dataset,
        batch_size=batch_size,
        workers=0,
        rank=every * rank,
        world=every * world,
        blank_unread=blank_unread,
    )
    found: list[tuple[int, list[int]]] = []
    for batch in batches:
        with noted([answering.get_submodule("network")]) as calls:
            detect(answering, batch.images, batch.original_sizes, precision)
        queries = _queries(detector, calls[0].answer, batch.objects)
        unread = {one.image_id for one in batch.unread}
        found += [
            (image_id, [NO_QUERY] * len(own) if image_id in unread else own)
            for image_id, own in zip(batch.image_ids, queries, strict=True)
        ]
    return found


def _queries(detector: DetrDetector, output: DetrOutput, objects: list[Objects]) -> list[list[int]]:
    """Each image's queries, in the order of its objects."""
    criterion = detector.criterion
    logits, boxes = output.logits[-1:].float().cpu(), output.boxes[-1:].float().cpu()
    matches = match(logits, boxes, objects, criterion.scoring, criterion.matching)
    edges = np.cumsum([0, *(len(image.labels) for image in objects)]).tolist()
    queries = np.full(edges[-1], NO_QUERY)
    queries[matches.target[0].numpy()] = matches.query[0].numpy()
    return [queries[start:end].tolist() for start, end in pairwise(edges)]
