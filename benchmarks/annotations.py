"""How long annotations as large as COCO's training split take to read, and their memory.

The json is generated: 118,287 images and 860,001 annotations with polygons, about as many bytes as COCO's
own. Every reading happens in a process of its own, so that nothing is warm but the file itself. The
memory of loader workers is that of forked processes which have touched every byte of the catalog.
"""

import json
import multiprocessing
import os
import tempfile
import time
from argparse import Namespace
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Row, Spread, parse, record

from detrkit.catalog import Catalog
from detrkit.data.formats.coco import read_coco

IMAGES, ANNOTATIONS, CATEGORIES = 118_287, 860_001, 80
FORMS = 20_000
"""Number of distinct polygons, each of which many annotations have."""
REPEATS, WORKERS = 5, 2
MEBI = 2**20


def measure(images: int = IMAGES, annotations: int = ANNOTATIONS) -> dict[str, Any]:
    """Seconds of first and cached readings, and MiB of the catalog and of what workers have to themselves."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "instances_train2017.json"
        write_annotations(source, images, annotations)
        os.environ["DETRKIT_CACHE"] = "off"
        parsed = [_in_a_process(_timed_reading, source) for _ in range(REPEATS)]
        os.environ["DETRKIT_CACHE"] = str(folder / "cache")
        first = _in_a_process(_timed_reading, source)
        again = [_in_a_process(_timed_reading, source) for _ in range(REPEATS)]
        return {
            "images": images,
            "annotations": annotations,
            "json_mb": source.stat().st_size / 1e6,
            "cache_mb": sum(file.stat().st_size for file in (folder / "cache").iterdir()) / 1e6,
            "first_read_and_written_seconds": first["seconds"],
            "without_cache_seconds": _spread([one["seconds"] for one in parsed]),
            "cached_seconds": _spread([one["seconds"] for one in again]),
            "resident_growth_mib": {"first": first["resident_mib"], "cached": again[0]["resident_mib"]},
            "catalog_mib": again[0]["catalog_mib"],
            "workers_unique_mib": _in_a_process(_workers_memory, source),
        }


def main(options: Namespace) -> None:
    found = measure(*(10_000, 70_000) if options.short else (IMAGES, ANNOTATIONS))
    cached, first = found["cached_seconds"], found["first_read_and_written_seconds"]
    what = f"annotations of {found['images']:,} images, {found['annotations']:,} objects"
    again = Spread(*(cached[key] for key in ("median", "least", "most")))
    grown = found["resident_growth_mib"]["cached"]
    rows = [
        Row(
            f"{what}, first read",
            Spread(first, first, first),
            5,
            "s",
            at_most=True,
            ours=f"{found['json_mb']:.0f} MB",
        ),
        Row(f"{what}, cached (median, least, most)", again, 0.3, "s", at_most=True),
        Row(f"{what}, resident", Spread(grown, grown, grown), 100, "MiB", at_most=True),
    ]
    record(options, rows, **found)


def _in_a_process(measured: Any, source: Path) -> Any:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=measured, args=(source, there))
    process.start()
    figures = here.recv()
    process.join()
    return figures


def _timed_reading(source: Path, answer: Connection) -> None:
    before, start = _memory("Rss"), time.perf_counter()
    catalog = read_coco(source, source.parent)
    seconds = time.perf_counter() - start
    resident = _memory("Rss") - before
    size = sum(column.nbytes for column in _columns(catalog)) / MEBI
    answer.send({"seconds": seconds, "resident_mib": resident, "catalog_mib": size})


def _workers_memory(source: Path, answer: Connection) -> None:
    """What each of the forked workers has to itself: one that reads nothing, and one that reads it all."""
    catalog = read_coco(source, source.parent)
    context = multiprocessing.get_context("fork")
    figures = {}
    for name, columns in (("idle", []), ("after_reading_all", _columns(catalog))):
        pipes = [context.Pipe(duplex=True) for _ in range(WORKERS)]
        workers = [context.Process(target=_touch, args=(columns, there)) for _, there in pipes]
        for worker in workers:
            worker.start()
        figures[name] = [here.recv() for here, _ in pipes]
        for (here, _), worker in zip(pipes, workers, strict=True):
            here.send("done")
            worker.join()
    answer.send(figures)


def _touch(columns: list[np.ndarray], pipe: Connection) -> None:
    for column in columns:
        np.ascontiguousarray(column).view(np.uint8).max()
    pipe.send(
        {
            "unique": _memory("Private_Clean") + _memory("Private_Dirty"),
            "proportional": _memory("Pss"),
            "resident": _memory("Rss"),
        }
    )
    pipe.recv()


def _columns(catalog: Catalog) -> list[np.ndarray]:
    values = [getattr(catalog, field.name) for field in fields(catalog)]
    return [value for value in values if isinstance(value, np.ndarray)]


def _memory(kind: str) -> float:
    """MiB of this process, as Linux accounts for it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "least": min(seconds), "most": max(seconds)}


def write_annotations(path: Path, images: int, annotations: int, seed: int = 0) -> None:
    """Write a json like COCO's training split: all its fields, sparse ids, annotations in no order."""
    random = np.random.default_rng(seed)
    image_ids = random.permutation(np.arange(1, images + 1) * 5 - random.integers(0, 5, images)).tolist()
    sides = random.integers(300, 641, (images, 2)).tolist()
    category_ids = np.sort(random.choice(np.arange(1, 91), CATEGORIES, replace=False)).tolist()
    forms = [_form(random) for _ in range(min(FORMS, annotations))]
    owners = random.choice(images, annotations).tolist()
    classes = random.choice(CATEGORIES, annotations).tolist()
    shapes = random.choice(len(forms), annotations).tolist()
    ids = random.permutation(annotations * 2)[:annotations].tolist()
    with path.open("w", encoding="ascii") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [], "images": [')
        file.write(", ".join(_image(*row) for row in zip(image_ids, sides, strict=True)))
        file.write('], "annotations": [')
        rows = zip(ids, owners, classes, shapes, strict=True)
        file.write(
            ", ".join(
                f'{{{forms[shape]}, "image_id": {image_ids[owner]}, "category_id": {category_ids[label]}, '
                f'"id": {number}}}'
                for number, owner, label, shape in rows
            )
        )
        names = (f'{{"supercategory": "thing", "id": {one}, "name": "class {one}"}}' for one in category_ids)
        file.write(f'], "categories": [{", ".join(names)}]}}')


def _image(image_id: int, side: list[int]) -> str:
    name = f"{image_id:012d}.jpg"
    return (
        f'{{"license": 3, "file_name": "{name}", '
        f'"coco_url": "http://images.cocodataset.org/train2017/{name}", "height": {side[0]}, '
        f'"width": {side[1]}, "date_captured": "2013-11-14 11:18:45", '
        f'"flickr_url": "http://farm9.staticflickr.com/8186/8119368305_{image_id:08d}_z.jpg", '
        f'"id": {image_id}}}'
    )


def _form(random: np.random.Generator) -> str:
    """The segmentation, area, crowd flag and box of an object; one in a hundred is a crowd's run lengths."""
    left, top = random.uniform(0, 250, 2)
    width, height = random.uniform(4, 250, 2)
    if random.random() < 0.01:
        counts = random.integers(1, 900, int(random.lognormal(5, 0.7))).tolist()
        outline: Any = {"counts": counts, "size": [480, 640]}
    else:
        parts = 1 + int(random.random() < 0.1)
        outline = [_ring(random, left, top, width, height) for _ in range(parts)]
    box = [round(float(value), 2) for value in (left, top, width, height)]
    crowd = int(isinstance(outline, dict))
    area = float(width * height) * 0.6
    return (
        f'"segmentation": {json.dumps(outline)}, "area": {area}, "iscrowd": {crowd}, '
        f'"bbox": {json.dumps(box)}'
    )


def _ring(random: np.random.Generator, left: float, top: float, width: float, height: float) -> list[float]:
    angles = np.sort(random.uniform(0, 2 * np.pi, 3 + int(random.lognormal(2.8, 0.6))))
    x = left + width * (1 + np.cos(angles)) / 2
    y = top + height * (1 + np.sin(angles)) / 2
    return np.stack([x, y], axis=1).round(2).ravel().tolist()


if __name__ == "__main__":
    main(parse(__doc__, repeats=1))
