"""A part of a split: some of its classes on all of its images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detrkit.catalog import Catalog
from detrkit.errors import DetrkitError
from detrkit.evaluation.coco import Result


def of_classes(
    catalog: Catalog, results: Sequence[Result], names: Sequence[str]
) -> tuple[Catalog, list[Result]]:
    """The categories, annotations and results of the classes named, in the catalog's order.

    Raises:
        DetrkitError: The catalog has no class of one of the names.
    """
    known = [category.name for category in catalog.categories]
    for name in names:
        if name not in known:
            raise DetrkitError(
                f"{catalog.source} has no class '{name}': it has {', '.join(known[:10])}"
                f"{', ..' if len(known) > 10 else ''}; name some of these, separated by commas."
            )
    labels = np.flatnonzero(np.isin(known, list(names)))
    kept = np.isin(catalog.labels, labels)
    categories = tuple(catalog.categories[label] for label in labels)
    ids = {category.id for category in categories}
    part = replace(
        catalog,
        categories=categories,
        offsets=np.concatenate([[0], np.cumsum(kept)])[catalog.offsets],
        annotation_ids=catalog.annotation_ids[kept],
        boxes=catalog.boxes[kept],
        labels=np.searchsorted(labels, catalog.labels[kept]),
        areas=catalog.areas[kept],
        crowds=catalog.crowds[kept],
    )
    return part, [result for result in results if result["category_id"] in ids]
