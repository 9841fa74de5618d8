"""Faults of ids and classes within one split."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from detrkit.data.check.faults import (
    ANNOTATION_ID_REPEATS,
    ANNOTATION_ID_RESTARTS,
    CATEGORY_ID_REPEATS,
    CATEGORY_IDS_GAPS,
    CATEGORY_NAME_EMPTY,
    CATEGORY_NAME_REPEATS,
    CATEGORY_NAMES_ALIKE,
    CATEGORY_UNKNOWN,
    IMAGE_ID_REPEATS,
    IMAGE_UNKNOWN,
    NO_CATEGORIES,
    NO_IMAGES,
    NO_OBJECTS,
)
from detrkit.data.check.findings import Finding, findings_of
from detrkit.data.check.listing import NO_ID, Listing, repeated_names, repeats


def check_identities(listing: Listing) -> list[Finding]:
    """What is wrong with the ids and classes of a split."""
    split = listing.split
    return [
        *findings_of(NO_IMAGES, split, range(not len(listing.image_ids)), lambda _: str(listing.source)),
        *findings_of(NO_CATEGORIES, split, range(not listing.categories), lambda _: str(listing.source)),
        *findings_of(
            NO_OBJECTS,
            split,
            range(bool(len(listing.image_ids)) and not listing.objects().any()),
            lambda _: str(listing.source),
        ),
        *findings_of(IMAGE_ID_REPEATS, split, _again(listing.image_ids), lambda row: _image(listing, row)),
        *_annotation_ids(listing),
        *findings_of(CATEGORY_UNKNOWN, split, listing.labels < 0, listing.annotation),
        *findings_of(IMAGE_UNKNOWN, split, listing.owners < 0, listing.annotation),
        *_categories(listing),
    ]


def _again(ids: np.ndarray) -> Bool[np.ndarray, " ids"]:
    return repeats(ids) & (ids != NO_ID)


def _image(listing: Listing, row: int) -> str:
    return f"id {listing.image_ids[row]}: {listing.image(row)}"


def _annotation_ids(listing: Listing) -> list[Finding]:
    again = _again(listing.annotation_ids)
    if not again.any():
        return []
    fault = ANNOTATION_ID_RESTARTS if _restarts(listing) else ANNOTATION_ID_REPEATS
    return findings_of(fault, listing.split, again, listing.annotation)


def _restarts(listing: Listing) -> bool:
    """Whether the ids of nearly every image are consecutive and begin at the same number."""
    known = listing.owners >= 0
    owners, ids = listing.owners[known], listing.annotation_ids[known]
    order = np.lexsort((ids, owners))
    owners, ids = owners[order], ids[order]
    _, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    first, last = ids[starts], ids[starts + counts - 1]
    regular = (first == ids.min()) & (last - first == counts - 1)
    return len(starts) > 1 and bool(regular.mean() >= 0.9)


def _categories(listing: Listing) -> Iterator[Finding]:
    ids = np.array([category.id for category in listing.categories], np.int64)
    names = [category.name for category in listing.categories]

    def describe(row: int) -> str:
        return f"id {ids[row]}: '{names[row][:200]}'"

    named = np.array([bool(name) for name in names], np.bool_)
    same = repeated_names(names) & named
    alike = repeated_names(["".join(name.casefold().split()) for name in names]) & named & ~same
    yield from findings_of(CATEGORY_ID_REPEATS, listing.split, _again(ids), describe)
    yield from findings_of(CATEGORY_NAME_REPEATS, listing.split, same, describe)
    yield from findings_of(CATEGORY_NAME_EMPTY, listing.split, ~named, describe)
    yield from findings_of(CATEGORY_NAMES_ALIKE, listing.split, alike, describe)
    valid = np.unique(ids[ids != NO_ID])
    if len(valid) and not np.array_equal(valid, np.arange(1, len(valid) + 1)):
        text = f"{len(valid)} ids from {valid[0]} to {valid[-1]}"
        yield Finding(CATEGORY_IDS_GAPS, listing.split, 1, (text,))
