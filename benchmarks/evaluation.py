"""Evaluation of 5,000 images with 100 detections each: time beside pycocotools, equal figures, memory.

The truth has as many objects as COCO's val2017. Both sides get the same list of results. Ours runs
several times, before and after pycocotools, and the resident memory is noted after each.
"""

import contextlib
import io
import time
from argparse import Namespace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Row, Spread, parse, record, seconds
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detrkit.catalog import Catalog, Category
from detrkit.evaluation.coco import Result, evaluate_results

IMAGES, DETECTIONS, CATEGORIES, OBJECTS_PER_IMAGE = 5_000, 100, 80, 7.36
REPEATS = 5


def measure(images: int = IMAGES, detections: int = DETECTIONS, repeats: int = REPEATS) -> dict[str, Any]:
    """Seconds of both, the largest difference of the twelve figures, and MiB after each repeat of ours."""
    random = np.random.default_rng(0)
    catalog = _catalog(random, images)
    results = _results(random, catalog, detections)
    seconds, resident = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        metrics = evaluate_results(catalog, results)
        seconds.append(time.perf_counter() - start)
        resident.append(_resident())
    theirs, figures = _pycocotools(catalog, results)
    start = time.perf_counter()
    evaluate_results(catalog, results)
    after = time.perf_counter() - start
    return {
        "images": images,
        "detections_per_image": detections,
        "objects": len(catalog.boxes),
        "detrkit_seconds": {"median": median(seconds), "least": min(seconds), "most": max(seconds)},
        "detrkit_seconds_after_pycocotools": after,
        "pycocotools_seconds": theirs,
        "times_faster": theirs / median(seconds),
        "largest_difference": float(np.abs(np.array(metrics[:12]) - figures).max()),
        "AP": metrics.AP,
        "resident_mib_after_each": resident,
    }


def main(options: Namespace) -> None:
    found = measure(*(20, 10) if options.short else (IMAGES, DETECTIONS))
    ours, theirs = found["detrkit_seconds"], found["pycocotools_seconds"]
    faster = Spread(*(theirs / ours[key] for key in ("median", "most", "least")))
    images = f"{found['images']:,} x {found['detections_per_image']} detections"
    rows = [
        Row(
            f"evaluation of {images} (median, worst, best)",
            faster,
            50,
            ours=seconds(ours["median"]),
            peer=f"{seconds(theirs)} (pycocotools); largest difference {found['largest_difference']:.1g}",
        )
    ]
    record(options, rows, **found)


def _catalog(random: np.random.Generator, images: int) -> Catalog:
    objects = int(images * OBJECTS_PER_IMAGE)
    counts = random.multinomial(objects, np.full(images, 1 / images))
    corners = random.uniform(0, 400, (objects, 2)).round(2)
    sizes = random.lognormal(4, 0.8, (objects, 2)).clip(2, 400).round(2)
    return Catalog(
        source=Path("generated"),
        folder=Path("generated"),
        categories=tuple(Category(number, f"class {number}") for number in range(1, CATEGORIES + 1)),
        image_ids=np.arange(images) * 7 + 1,
        file_names=np.array([f"{number}.jpg" for number in range(images)]),
        widths=np.full(images, 640),
        heights=np.full(images, 480),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        annotation_ids=np.arange(objects) + 1,
        boxes=np.concatenate([corners, corners + sizes], axis=1),
        labels=random.integers(0, CATEGORIES, objects),
        areas=sizes.prod(axis=1),
        crowds=random.random(objects) < 0.01,
    )


def _results(random: np.random.Generator, catalog: Catalog, detections: int) -> list[Result]:
    """Three shifted copies of every object, then boxes at random, as many as an image may have."""
    results: list[Result] = []
    for index, image_id in enumerate(catalog.image_ids.tolist()):
        rows = catalog.rows(index)
        copies = np.tile(np.arange(rows.start, rows.stop), 3)[:detections]
        shifted = catalog.boxes[copies] + random.normal(0, 4, (len(copies), 4))
        others = random.uniform(0, 200, (detections - len(copies), 4))
        others[:, 2:] += others[:, :2]
        boxes = np.concatenate([shifted, others])
        boxes[:, 2:] = (boxes[:, 2:] - boxes[:, :2]).clip(min=1)
        labels = np.append(catalog.labels[copies], random.integers(0, CATEGORIES, len(others)))
        scores = random.random(detections).astype(np.float32)
        results += [
            {"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score}
            for label, box, score in zip(labels.tolist(), boxes.tolist(), scores.tolist(), strict=True)
        ]
    return results


def _pycocotools(catalog: Catalog, results: list[Result]) -> tuple[float, list[float]]:
    """The seconds that it takes from the same results to the figures, and these."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _truth(catalog)
        truth.createIndex()
        start = time.perf_counter()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return time.perf_counter() - start, evaluation.stats.tolist()


def _truth(catalog: Catalog) -> dict[str, Any]:
    sizes = (catalog.boxes[:, 2:] - catalog.boxes[:, :2]).round(10)
    rows = zip(
        catalog.annotation_ids.tolist(),
        np.repeat(catalog.image_ids, np.diff(catalog.offsets)).tolist(),
        (catalog.labels + 1).tolist(),
        np.concatenate([catalog.boxes[:, :2], sizes], axis=1).tolist(),
        catalog.areas.tolist(),
        catalog.crowds.astype(int).tolist(),
        strict=True,
    )
    names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    return {
        "images": [{"id": image_id, "width": 640, "height": 480} for image_id in catalog.image_ids.tolist()],
        "categories": [{"id": category.id, "name": category.name} for category in catalog.categories],
        "annotations": [dict(zip(names, row, strict=True)) for row in rows],
    }


def _resident() -> float:
    """MiB of this process, as Linux accounts for it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


if __name__ == "__main__":
    main(parse(__doc__, repeats=1))
