"""COCO's detection metrics, and the results file that they are taken from.

hotcoco does the matching: a Rust twin of pycocotools, whose figures it reproduces. The conventions are
COCO's (https://cocodataset.org/#detection-eval): at most 100 detections per image, crowds ignored, and
a figure is -1 where no object could be found.

This is one of the doors between coordinates: a ``Catalog`` and ``Detections`` hold ``xyxy``, COCO's
results ``[x, y, width, height]``.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import hotcoco
import msgspec
import numpy as np
from jaxtyping import Float, Int64

from detrkit.catalog import Catalog
from detrkit.errors import DetrkitError
from detrkit.files import require_regular
from detrkit.structures import Detections


class Result(TypedDict):
    """One detection in COCO's results format; ``bbox`` is ``[x, y, width, height]`` in image space."""

    image_id: int
    category_id: int
    bbox: Annotated[list[float], msgspec.Meta(min_length=4, max_length=4)]
    score: float


class ClassMetrics(NamedTuple):
    """The figures of one class, -1 where it has no objects, and how many objects (crowds aside) it has.

    They are defined as those of ``Metrics`` are. AR allows as many detections as AP does.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR: float
    objects: int


class Metrics(NamedTuple):
    """COCO's 12 figures, fractions or -1, and those of each class by its name.

    AP is averaged over the IoU thresholds 0.50, 0.55 .. 0.95 unless it names one. The letters s, m, l are
    objects of less than 32², less than 96², and more pixels. AR1, AR10, AR100 allow that many detections.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: dict[str, ClassMetrics]

    def to_dict(self) -> dict[str, Any]:
        """The 12 figures under their names, and ``per_class`` as name -> the fields of ``ClassMetrics``."""
        per_class = {name: figures._asdict() for name, figures in self.per_class.items()}
        return self._asdict() | {"per_class": per_class}


def to_results(catalog: Catalog, image_id: int, detections: Detections) -> list[Result]:
    """The detections of one image as COCO results, under the category ids of the catalog."""
    boxes = _xyxy_to_xywh(detections.boxes.double().numpy(force=True)).tolist()
    scores, labels = detections.scores.tolist(), detections.labels.tolist()
    return [
        {"image_id": image_id, "category_id": catalog.categories[label].id, "bbox": box, "score": score}
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write a COCO results file (json); every number can be read back exactly."""
    path.write_bytes(msgspec.json.encode(results))


def read_results(path: Path, catalog: Catalog) -> list[Result]:
    """The entries of a COCO results file about the images and categories of ``catalog``."""
    try:
        require_regular(path)
        results = msgspec.json.decode(path.read_bytes(), type=list[Result])
    except OSError as error:
        reason = error.strerror or error
        raise DetrkitError(f"{path}: the results cannot be read: {reason}; name a .json file.") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DetrkitError(
            f"{path}: not a COCO results file, which is a json list of entries with image_id, category_id, "
            f"bbox [x, y, width, height] and score: {error}."
        ) from None
    _require_known_ids(path, results, catalog)
    return results


COCO_IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""The IoUs at which COCO counts a detection as right: 0.50, 0.55 .. 0.95."""

MAX_DETECTIONS = (1, 10, 100)
"""How many detections of an image and class COCO allows. AP has the last of them."""


def evaluate_results(catalog: Catalog, results: Sequence[Result]) -> Metrics:
    """COCO's figures for results on all images of ``catalog``; an image without results found nothing."""
    found = accumulated(catalog, rows_of(catalog, results)).eval
    assert found is not None
    return summarise(catalog, found["precision"], found["recall"])


def accumulated(
    catalog: Catalog,
    rows: Float[np.ndarray, "results 7"],
    ious: tuple[float, ...] = COCO_IOUS,
    max_detections: tuple[int, ...] = MAX_DETECTIONS,
) -> hotcoco.COCOeval:
    """The evaluator after all is matched and its arrays are made, for the ``rows`` of some results."""
    evaluation = evaluator(catalog, rows)
    evaluation.params.iou_thrs = list(ious)
    evaluation.params.max_dets = list(max_detections)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def evaluator(catalog: Catalog, rows: Float[np.ndarray, "results 7"]) -> hotcoco.COCOeval:
    """An evaluator of the ``rows`` of some results, with COCO's parameters, that has done nothing yet."""
    truth = _truth(catalog)
    return hotcoco.COCOeval(truth, truth.load_res(rows), "bbox")


def summary_lines(
    metrics: Metrics,
    ious: tuple[float, ...] = COCO_IOUS,
    max_detections: tuple[int, ...] = MAX_DETECTIONS,
) -> list[str]:
    """The 12 lines that the COCO API prints, letter for letter.

    With other IoUs or limits the lines say these, and those of an IoU that was not judged are left out.
    """
    all_ious, limit = _stated(ious), max_detections[-1]
    figures = metrics._asdict() | {"AR": metrics.AR100 if limit == 100 else _mean_recall(metrics)}
    at = {"AP50": 0.5, "AP75": 0.75}
    limits = {"AR1": 1, "AR10": 10}
    return [
        f" {_AP if name.startswith('AP') else _AR} @[ IoU={f'{at[name]:.2f}' if name in at else all_ious:<9} "
        f"| area={area:>6} | maxDets={limits.get(name, limit):>3} ] = {figures[name]:0.3f}"
        for name, area in _LINES
        if (name not in at or _places(ious, at[name]))
        and (name not in limits or limits[name] in max_detections)
    ]


_AP, _AR = "Average Precision  (AP)", "Average Recall     (AR)"
_LINES = (
    ("AP", "all"),
    ("AP50", "all"),
    ("AP75", "all"),
    ("APs", "small"),
    ("APm", "medium"),
    ("APl", "large"),
    ("AR1", "all"),
    ("AR10", "all"),
    ("AR", "all"),
    ("ARs", "small"),
    ("ARm", "medium"),
    ("ARl", "large"),
)


def _stated(ious: tuple[float, ...]) -> str:
    return "0.50:0.95" if ious == COCO_IOUS else ",".join(f"{iou:.2f}" for iou in ious)


def _mean_recall(metrics: Metrics) -> float:
    return _mean(np.array([figures.AR for figures in metrics.per_class.values()]))


def _xyxy_to_xywh(boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _require_known_ids(path: Path, results: list[Result], catalog: Catalog) -> None:
    images = set(catalog.image_ids.tolist())
    categories = {category.id for category in catalog.categories}
    for key, known in (("image_id", images), ("category_id", categories)):
        unknown = set(map(itemgetter(key), results)) - known
        for index, result in enumerate(results if unknown else ()):
            if result[key] in unknown:
                raise DetrkitError(
                    f"{path}: entry {index} has {key} {result[key]}, which {catalog.source} does not have; "
                    "evaluate these results on the split that they were made from."
                )


def _truth(catalog: Catalog) -> hotcoco.COCO:
    """The annotations for hotcoco, which takes no negative ids: its ids are ranks of images, and labels."""
    # x + width - x differs from width in its last bits; ten decimals give back what the dataset said, so
    # that an IoU which lies on a threshold falls on the same side as pycocotools' does.
    boxes = np.round(_xyxy_to_xywh(catalog.boxes), 10)
    return hotcoco.COCO.from_arrays(
        [{"id": rank} for rank in range(len(catalog))],
        [{"id": label, "name": category.name} for label, category in enumerate(catalog.categories)],
        np.repeat(_ranks(catalog), np.diff(catalog.offsets)),
        catalog.labels,
        boxes,
        area=catalog.areas,
        iscrowd=catalog.crowds,
    )


def rows_of(catalog: Catalog, results: Sequence[Result]) -> Float[np.ndarray, "results 7"]:
    """Results as (rank of the image's id, x, y, width, height, score, label), which is what hotcoco takes.

    Raises:
        DetrkitError: A box or a score is not finite; hotcoco would rank it somewhere.
    """
    rank = dict(zip(catalog.image_ids.tolist(), _ranks(catalog).tolist(), strict=True))
    label = {category.id: label for label, category in enumerate(catalog.categories)}
    num = len(results)
    images = map(rank.__getitem__, map(itemgetter("image_id"), results))
    boxes = chain.from_iterable(map(itemgetter("bbox"), results))
    labels = map(label.__getitem__, map(itemgetter("category_id"), results))
    rows = np.column_stack(
        [
            np.fromiter(images, np.float64, num),
            np.fromiter(boxes, np.float64, 4 * num).reshape(num, 4),
            np.fromiter(map(itemgetter("score"), results), np.float64, num),
            np.fromiter(labels, np.float64, num),
        ]
    )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        first = results[broken[0]]["image_id"]
        raise DetrkitError(
            f"{catalog.source}: {len(broken)} of {num} detections have a box or a score that is not finite, "
            f"the first in image {first}: mend the detector, or leave them out."
        )
    return rows


def _ranks(catalog: Catalog) -> Int64[np.ndarray, " images"]:
    """The place of each image's id among all in order: where scores tie, COCO counts lower ids first."""
    return np.searchsorted(np.sort(catalog.image_ids), catalog.image_ids)


def summarise(
    catalog: Catalog,
    precision: Float[np.ndarray, "ious recalls classes areas limits"],
    recall: Float[np.ndarray, "ious classes areas limits"],
    ious: tuple[float, ...] = COCO_IOUS,
    max_detections: tuple[int, ...] = MAX_DETECTIONS,
) -> Metrics:
    """The figures of the evaluator's arrays; -1 for one of an IoU or a limit that was not asked for."""
    at_50, at_75 = _places(ious, 0.5), _places(ious, 0.75)
    first, tenth, hundredth = (
        [place for place, limit in enumerate(max_detections) if limit == one] for one in MAX_DETECTIONS
    )
    return Metrics(
        AP=_mean(precision[..., _ALL, -1]),
        AP50=_mean(precision[at_50, ..., _ALL, -1]),
        AP75=_mean(precision[at_75, ..., _ALL, -1]),
        APs=_mean(precision[..., _SMALL, -1]),
        APm=_mean(precision[..., _MEDIUM, -1]),
        APl=_mean(precision[..., _LARGE, -1]),
        AR1=_mean(recall[..., _ALL, first]),
        AR10=_mean(recall[..., _ALL, tenth]),
        AR100=_mean(recall[..., _ALL, hundredth]),
        ARs=_mean(recall[..., _SMALL, -1]),
        ARm=_mean(recall[..., _MEDIUM, -1]),
        ARl=_mean(recall[..., _LARGE, -1]),
        per_class=_per_class(catalog, precision[..., -1], recall[..., _ALL, -1], at_50, at_75),
    )


_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # places on the evaluator's axis of areas


def _places(ious: tuple[float, ...], wanted: float) -> list[int]:
    return [place for place, iou in enumerate(ious) if abs(iou - wanted) < 1e-6]


def _per_class(
    catalog: Catalog,
    precision: Float[np.ndarray, "ious recalls classes areas"],
    recall: Float[np.ndarray, "ious classes"],
    at_50: list[int],
    at_75: list[int],
) -> dict[str, ClassMetrics]:
    figures = (
        _class_means(precision[..., _ALL]),
        _class_means(precision[at_50, ..., _ALL]),
        _class_means(precision[at_75, ..., _ALL]),
        _class_means(precision[..., _SMALL]),
        _class_means(precision[..., _MEDIUM]),
        _class_means(precision[..., _LARGE]),
        _class_means(recall),
        num_objects(catalog).tolist(),
    )
    names = (category.name for category in catalog.categories)
    return {name: ClassMetrics(*values) for name, *values in zip(names, *figures, strict=True)}


def num_objects(catalog: Catalog) -> Int64[np.ndarray, " classes"]:
    """How many objects each class has, crowds aside."""
    return np.bincount(catalog.labels[~catalog.crowds], minlength=len(catalog.categories))


def _class_means(values: Float[np.ndarray, "... classes"]) -> list[float]:
    # a class without objects has -1 everywhere, and one with objects nowhere
    columns = values.reshape(-1, values.shape[-1])
    return (columns.mean(axis=0) if len(columns) else np.full(values.shape[-1], -1.0)).tolist()


def _mean(values: Float[np.ndarray, "..."]) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else -1.0
