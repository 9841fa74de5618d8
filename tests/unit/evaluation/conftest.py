"""Detections to judge: those of COCO's own example, beside pycocotools' decisions, and small scenes."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detrkit.catalog import Catalog, Category
from detrkit.data.formats.coco import read_coco
from detrkit.evaluation.coco import read_results
from detrkit.evaluation.judged import Judged, judge

TRUTH, FOUND = "instances_val2014_100.json", "instances_val2014_fakebbox100_results.json"


@pytest.fixture(scope="session")
def judged(shared: Path) -> Judged:
    folder = shared / "coco-eval"
    catalog = read_coco(folder / TRUTH, folder)
    return judge(catalog, read_results(folder / FOUND, catalog))


@pytest.fixture(scope="session")
def reference(shared: Path) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(shared / "coco-eval" / TRUTH))
        evaluation = COCOeval(truth, truth.loadRes(str(shared / "coco-eval" / FOUND)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


class Decision(NamedTuple):
    """What pycocotools decides of one detection at IoU 0.5, and of which object; both as COCO has them."""

    found: dict
    truth: dict | None


@pytest.fixture(scope="session")
def decisions(reference: COCOeval) -> list[Decision]:
    """All detections that pycocotools counts as right or wrong, whatever their size."""
    return [
        Decision(reference.cocoDt.anns[found], reference.cocoGt.anns[truth] if truth else None)
        for one in reference.evalImgs
        if one is not None and one["aRng"] == [0, 1e10]
        for found, truth, ignored in zip(
            one["dtIds"], one["dtMatches"][0].astype(int).tolist(), one["dtIgnore"][0], strict=True
        )
        if not ignored
    ]


Box = tuple[float, float, float, float]
"""x, y, width, height."""


@pytest.fixture(scope="session")
def scene() -> Callable[..., Judged]:
    """Judges ``found`` (image, class, box, score) with ``objects`` (image, class, box, crowd or not).

    Three images, whose ids are not in order, and the classes "cup" and "cat" unless named.
    """
    image_ids = np.array([30, 10, 20])

    def make(
        objects: Sequence[tuple[int, str, Box, bool]],
        found: Sequence[tuple[int, str, Box, float]],
        classes: tuple[str, ...] = ("cup", "cat"),
        **options: tuple,
    ) -> Judged:
        objects = sorted(objects, key=lambda one: one[0])
        boxes = np.array([box for _, _, box, _ in objects], dtype=np.float64).reshape(-1, 4)
        images = [image for image, *_ in objects]
        catalog = Catalog(
            source=Path("instances_val.json"),
            folder=Path("val"),
            categories=tuple(Category(place + 5, name) for place, name in enumerate(classes)),
            image_ids=image_ids,
            file_names=np.array(["a.jpg", "b.jpg", "c.jpg"]),
            widths=np.full(3, 640),
            heights=np.full(3, 480),
            offsets=np.searchsorted(images, np.arange(4)),
            annotation_ids=np.arange(len(objects)) + 1,
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            labels=np.array([classes.index(name) for _, name, _, _ in objects], dtype=np.int64),
            areas=boxes[:, 2] * boxes[:, 3],
            crowds=np.array([crowd for *_, crowd in objects], dtype=bool),
        )
        results = [
            {
                "image_id": int(image_ids[image]),
                "category_id": classes.index(name) + 5,
                "bbox": list(map(float, box)),
                "score": float(score),
            }
            for image, name, box, score in found
        ]
        return judge(catalog, results, **options)

    return make
