"""Faults between splits: classes that differ or are absent, and images that are in two."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np

from detrkit.catalog import Category
from detrkit.data.check.faults import (
    CATEGORIES_DIFFER,
    CLASS_ABSENT,
    CLASS_WITHOUT_EXAMPLES,
    IMAGE_DUPLICATE,
    IMAGE_LEAK,
    SPLIT_CONTAINS,
)
from detrkit.data.check.findings import Finding, findings_of
from detrkit.data.check.listing import Listing

Contents = Sequence[str]
"""What stands for the content of each image of a split: equal for equal content, empty if there is none."""


def check_classes(listings: Sequence[Listing]) -> list[Finding]:
    """Categories that differ between splits, and classes without examples in all or in some."""
    if not listings:
        return []
    examples = {listing.split: _examples(listing) for listing in listings}
    names = list(dict.fromkeys(category.name for listing in listings for category in listing.categories))
    never = [name for name in names if not any(name in found for found in examples.values())]
    found = findings_of(CLASS_WITHOUT_EXAMPLES, _all(listings), range(len(never)), lambda row: never[row])
    for listing in listings:
        absent = [name for name in names if name not in never and name not in examples[listing.split]]
        if examples[listing.split]:  # a split without any object is said to be one
            found += findings_of(
                CLASS_ABSENT, listing.split, range(len(absent)), lambda row, absent=absent: absent[row]
            )
    return found + _differences(listings)


def check_leaks(listings: Sequence[Listing], contents: Sequence[Contents]) -> list[Finding]:
    """Images that a split has twice, and images that two splits share."""
    found = []
    for listing, content in zip(listings, contents, strict=True):
        copies = copies_in(listing, content)
        rows = sorted(copies)
        found += findings_of(
            IMAGE_DUPLICATE,
            listing.split,
            rows,
            lambda row, of=copies, one=listing: f"{one.image(row)} is {one.image(of[row])}",
        )
    for (left, left_content), (right, right_content) in combinations(zip(listings, contents, strict=True), 2):
        found += _shared(left, left_content, right, right_content)
    return found


def copies_in(listing: Listing, content: Contents) -> dict[int, int]:
    """For each image whose content another entry and file had before: which one."""
    first: dict[str, int] = {}
    copies = {}
    for row, digest in enumerate(content):
        if not digest:
            continue
        original = first.setdefault(digest, row)
        if listing.file_names[original] != listing.file_names[row]:
            copies[row] = original
    return copies


def _shared(left: Listing, left_content: Contents, right: Listing, right_content: Contents) -> list[Finding]:
    of_content = {digest: row for row, digest in enumerate(right_content) if digest}
    shared = [row for row, digest in enumerate(left_content) if digest in of_content]
    where = f"{left.split}, {right.split}"
    same_file = left.folder == right.folder
    for larger, smaller in ((left, right), (right, left)):
        names = set(larger.file_names)
        if (
            same_file
            and len(larger.file_names) > len(smaller.file_names) > 0
            and names >= set(smaller.file_names)
        ):
            text = f"{larger.split} has all {len(smaller.file_names)} images of {smaller.split}"
            return [Finding(SPLIT_CONTAINS, where, 1, (text,))]
    return findings_of(
        IMAGE_LEAK,
        where,
        shared,
        lambda row: (
            f"{left.split}/{left.image(row)} is {right.split}/{right.image(of_content[left_content[row]])}"
        ),
    )


def _examples(listing: Listing) -> set[str]:
    used = np.unique(listing.labels[(listing.labels >= 0) & ~listing.crowds])
    return {listing.categories[label].name for label in used}


def _differences(listings: Sequence[Listing]) -> list[Finding]:
    found = []
    named = [listing for listing in listings if listing.categories]
    for first, other in product(named[:1], named[1:]):
        texts = _difference(first.categories, other.categories)
        where = f"{first.split}, {other.split}"
        found += findings_of(CATEGORIES_DIFFER, where, range(len(texts)), lambda row, texts=texts: texts[row])
    return found


def _difference(left: tuple[Category, ...], right: tuple[Category, ...]) -> list[str]:
    names: dict[int, list[str]] = defaultdict(lambda: ["nothing", "nothing"])
    for side, categories in enumerate((left, right)):
        for category in categories:
            names[category.id][side] = f"'{category.name}'"
    return [f"id {number} is {one} and {two}" for number, (one, two) in sorted(names.items()) if one != two]


def _all(listings: Sequence[Listing]) -> str:
    return ", ".join(listing.split for listing in listings)
