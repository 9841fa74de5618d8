"""What the annotations of both splits say, and how many training images there really are."""

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.check.examine import quick_check
from detrkit.data.check.pictures import digest_of
from detrkit.monitoring.doctor.facts import Splits

_LOOKED_AT = 400
"""How many training files are compared; where every image is there twice, a tenth of them meet their copy."""


def splits_of(train: Catalog, validation: Catalog, queries: int, *, open_files: bool = False) -> Splits:
    """The facts of a dataset for a detector of so many queries."""
    counts = np.array([int((~train.crowds[train.rows(index)]).sum()) for index in range(len(train))])
    found = quick_check({"train": train, "val": validation}, queries)
    return Splits(
        images=(len(train), len(validation)),
        most_objects=int(counts.max(initial=0)),
        mean_objects=float(counts.mean()) if len(counts) else 0.0,
        beyond=float(np.clip(counts - queries, 0, None).sum() / max(counts.sum(), 1)),
        shares=(_shares(train), _shares(validation)),
        mean_boxes=(_mean_box(train), _mean_box(validation)),
        findings={one.fault.name: one.sentence for one in found if one.fault.severity != "note"},
        distinct=_distinct(train) if open_files else None,
    )


def _shares(catalog: Catalog) -> list[float]:
    counts = np.bincount(catalog.labels[~catalog.crowds], minlength=len(catalog.categories))
    return (counts / max(counts.sum(), 1)).tolist()


def _mean_box(catalog: Catalog) -> list[float]:
    """The mean centre, width and height of the objects in fractions of their images."""
    kept = ~catalog.crowds
    owners = np.repeat(np.arange(len(catalog)), np.diff(catalog.offsets))[kept]
    size = np.column_stack([catalog.widths[owners], catalog.heights[owners]]).astype(np.float64)
    low, high = catalog.boxes[kept, :2] / size, catalog.boxes[kept, 2:] / size
    boxes = np.column_stack([(low + high) / 2, high - low])
    return boxes.mean(axis=0).tolist() if len(boxes) else [0.0, 0.0, 0.0, 0.0]


def _distinct(catalog: Catalog) -> float | None:
    """The share of neighbouring training files that are not copies; None where files cannot be opened."""
    if catalog.shards is not None:
        return None
    seen: set[str] = set()
    looked = min(len(catalog), _LOOKED_AT)
    for index in range(looked):
        try:
            seen.add(digest_of(catalog.path(index)))
        except OSError:
            return None
    return len(seen) / looked
