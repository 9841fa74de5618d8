"""Several catalogs as one: categories matched by name, ids that stay apart."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog, Category
from detrkit.data.subset import keep_annotations, take_images
from detrkit.data.write import paths
from detrkit.errors import DetrkitError
from detrkit.settings.section import did_you_mean


class Joined(NamedTuple):
    """Images of several folders in one catalog, whose own folder means nothing then."""

    catalog: Catalog
    files: list[Path]
    """Where each image lies."""
    repeated: int
    """How many images were left out, since an earlier catalog has the same file with the same objects."""


def join(catalogs: Sequence[Catalog]) -> Joined:
    """The images of all catalogs, which have the same categories, one after the other.

    Ids of images and of annotations are kept if no two are the same, else counted from 1.
    """
    seen: set[tuple[Path, bytes]] = set()
    kept: list[Catalog] = []
    files: list[Path] = []
    for catalog in catalogs:
        entries = [(path, _objects(catalog, row)) for row, path in enumerate(paths(catalog))]
        fresh = [row for row, entry in enumerate(entries) if entry not in seen]
        seen.update(entries)  # not before, since what one catalog has twice is left to it
        kept.append(take_images(catalog, np.array(fresh, np.int64)))
        files += [entries[row][0] for row in fresh]
    return Joined(_concatenated(kept), files, sum(map(len, catalogs)) - len(files))


def merge(datasets: Sequence[Mapping[str, Catalog]], renames: Mapping[str, str]) -> dict[str, Joined]:
    """The splits of all datasets, those of one name joined.

    Categories are matched by their names after ``renames``, in which an empty name drops the objects of a
    category, but no image. Those of the first dataset keep their ids, and others get the following ones.

    Raises:
        DetrkitError: A name to be changed is that of no category, or none is left.
    """
    _require_known(renames, datasets)
    categories = _merged_categories(datasets, renames)
    together: defaultdict[str, list[Catalog]] = defaultdict(list)
    for dataset in datasets:
        for split, catalog in dataset.items():
            together[split].append(_relabelled(catalog, renames, categories))
    return {split: join(catalogs) for split, catalogs in together.items()}


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ by case, spaces, hyphens and underscores alone."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"[\s_-]", "", name).casefold()].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _objects(catalog: Catalog, row: int) -> bytes:
    rows = catalog.rows(row)
    return catalog.boxes[rows].tobytes() + catalog.labels[rows].tobytes() + catalog.crowds[rows].tobytes()


def _concatenated(catalogs: Sequence[Catalog]) -> Catalog:
    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(catalog, name) for catalog in catalogs])

    counts = np.concatenate([np.diff(catalog.offsets) for catalog in catalogs])
    return replace(
        catalogs[0],
        image_ids=_distinct(column("image_ids")),
        annotation_ids=_distinct(column("annotation_ids")),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{name: column(name) for name in ("file_names", "widths", "heights")},
        **{name: column(name) for name in ("boxes", "labels", "areas", "crowds")},
    )


def _distinct(ids: Int64[np.ndarray, " ids"]) -> Int64[np.ndarray, " ids"]:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1)


def _require_known(renames: Mapping[str, str], datasets: Sequence[Mapping[str, Catalog]]) -> None:
    known = list(
        dict.fromkeys(
            category.name for dataset in datasets for one in dataset.values() for category in one.categories
        )
    )
    for name in renames:
        if name not in known:
            raise DetrkitError(
                f"--map names the class '{name}', but the {len(known)} classes of these datasets are "
                f"{', '.join(known[:20])}{', ..' if len(known) > 20 else ''}{did_you_mean(name, known)}"
            )


def _merged_categories(
    datasets: Sequence[Mapping[str, Catalog]], renames: Mapping[str, str]
) -> tuple[Category, ...]:
    ids: dict[str, int] = {}
    for number, dataset in enumerate(datasets):
        for catalog in dataset.values():
            for category in catalog.categories:
                name = renames.get(category.name, category.name)
                if name and name not in ids:
                    own = number == 0 and category.id not in ids.values()
                    ids[name] = category.id if own else max(ids.values(), default=0) + 1
    if not ids:
        raise DetrkitError("--map drops every class of these datasets, but one at least must be left.")
    return tuple(sorted(Category(number, name) for name, number in ids.items()))


def _relabelled(catalog: Catalog, renames: Mapping[str, str], categories: tuple[Category, ...]) -> Catalog:
    label_of = {category.name: label for label, category in enumerate(categories)}
    names = [renames.get(category.name, category.name) for category in catalog.categories]
    labels = np.array([label_of.get(name, -1) for name in names], np.int64)[catalog.labels]
    kept = labels >= 0
    return replace(keep_annotations(catalog, kept), categories=categories, labels=labels[kept])
