"""What each query of a DETR is used for, over a set of images (Carion et al. 2020, figure 7)."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.loader import evaluation_batches
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.inference.noted import noted
from detrkit.inference.precision import Precision
from detrkit.scoring import Scoring
from detrkit.structures import DetrOutput


class Found(NamedTuple):
    """Sure answers, in columns, each of its best class. Boxes are ``cxcywh`` in fractions of their image."""

    queries: Int64[np.ndarray, " N"]
    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]


class QueryUsage(NamedTuple):
    """How often each of Q queries answered at least as surely as ``threshold`` in so many ``images``.

    A query answers once in an image at most, whatever classes it finds there. ``mean_size`` is the (width,
    height) of its boxes in fractions of their image, NaN where it has none. ``found`` are the answers, or an
    even draw of them where there are too many to keep.
    """

    images: int
    threshold: float
    answers: Int64[np.ndarray, " Q"]
    mean_size: Float64[np.ndarray, "Q 2"]
    found: Found

    @property
    def share(self) -> Float64[np.ndarray, " Q"]:
        """The part of the images in which each query answered."""
        return self.answers / max(self.images, 1)

    @property
    def dead(self) -> Bool[np.ndarray, " Q"]:
        """Which queries never answered."""
        return self.answers == 0

    @property
    def dominating(self) -> Bool[np.ndarray, " Q"]:
        """Which queries answered in more than half of the images."""
        return self.share > 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the answers."""
        return {
            "images": self.images,
            "threshold": self.threshold,
            "answers": self.answers.tolist(),
            "mean_size": [None if np.isnan(size).any() else size.tolist() for size in self.mean_size],
            "dead": np.flatnonzero(self.dead).tolist(),
            "dominating": np.flatnonzero(self.dominating).tolist(),
        }


def query_usage(
    detector: DetrDetector,
    catalog: Catalog,
    *,
    threshold: float = 0.5,
    every: int = 1,
    batch_size: int = 1,
    workers: int = 0,
    precision: Precision = "fp32",
    most_kept: int = 20_000,
) -> QueryUsage:
    """Which queries answer how often, and where, in every ``every``-th image of a split.

    At most ``most_kept`` answers are kept as boxes, each with the same chance; counts and means are of all.

    Raises:
        DetrkitError: An image is missing or damaged.
    """
    require_images(catalog)
    answering = frozen(detector, precision)
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    tally = _Tally(detector.network.decoder.num_queries, threshold, most_kept)
    batches = evaluation_batches(dataset, batch_size=batch_size, workers=workers, world=every)
    for batch in batches:
        with noted([answering.get_submodule("network")]) as outputs:
            detect(answering, batch.images, batch.original_sizes, precision)
        tally.add(_sure(outputs[0].answer, detector.criterion.scoring, threshold), len(batch.image_ids))
    return tally.usage()


def _sure(output: DetrOutput, scoring: Scoring, threshold: float) -> Found:
    """The answers of a batch that reach the threshold, one per image and query: its surest class."""
    answers = scoring.answer(output.logits[-1].float())
    image, place = (answers.scores >= threshold).nonzero(as_tuple=True)
    scores, labels, queries = (column[image, place] for column in answers)
    # best first within an image, so that the first of a query is its best
    boxes = output.boxes[-1].float()[image, queries]
    number = output.logits.shape[2]
    _, first = np.unique((image * number + queries).cpu().numpy(), return_index=True)
    return Found(*(_to_numpy(column)[first] for column in (queries, boxes, scores, labels)))


class _Tally:
    """Counts and sums of all answers, and an even draw of them: those that drew the lowest numbers."""

    def __init__(self, queries: int, threshold: float, most_kept: int) -> None:
        self._threshold = threshold
        self._most_kept = most_kept
        self._images = 0
        self._answers = np.zeros(queries, np.int64)
        self._sizes = np.zeros((queries, 2))
        self._random = np.random.default_rng(0)
        none = np.zeros(0, np.int64)
        self._kept = [Found(none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none)]
        self._lots = [np.zeros(0)]

    def add(self, found: Found, images: int) -> None:
        """Count the answers in so many more images."""
        self._images += images
        np.add.at(self._answers, found.queries, 1)
        np.add.at(self._sizes, found.queries, found.boxes[:, 2:])
        self._kept.append(found)
        self._lots.append(self._random.random(len(found.queries)))
        if sum(map(len, self._lots)) > 2 * self._most_kept:
            self._draw()

    def usage(self) -> QueryUsage:
        """What all that was counted amounts to."""
        self._draw()
        with np.errstate(invalid="ignore"):
            mean_size = self._sizes / self._answers[:, None]
        return QueryUsage(self._images, self._threshold, self._answers, mean_size, self._kept[0])

    def _draw(self) -> None:
        columns = zip(*self._kept, strict=True)
        found = Found(*(np.concatenate(column) for column in columns))
        lots = np.concatenate(self._lots)
        lowest = np.sort(np.argsort(lots)[: self._most_kept])
        self._kept, self._lots = [Found(*(column[lowest] for column in found))], [lots[lowest]]


def _to_numpy(column: Tensor) -> np.ndarray:
    return column.detach().cpu().clone().numpy()
