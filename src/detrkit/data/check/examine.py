"""The whole check of a dataset, and the part of it that costs next to nothing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from detrkit.catalog import Catalog
from detrkit.data.check.boxes import check_boxes
from detrkit.data.check.coco_listing import read_listing
from detrkit.data.check.entries import check_entries, check_present, check_unlisted, files_present
from detrkit.data.check.faults import ANNOTATIONS_REFUSED
from detrkit.data.check.findings import EXAMPLES, Finding, worst_first
from detrkit.data.check.identities import check_identities
from detrkit.data.check.listing import Listing, listing_of
from detrkit.data.check.pictures import Picture, check_pictures, contents, look_at_all
from detrkit.data.check.splits import Contents, check_classes, check_leaks
from detrkit.data.formats.coco import annotations_file
from detrkit.data.formats.recognise import read_split, recognise, refusals, splits
from detrkit.data.formats.resized import require_originals
from detrkit.data.formats.shards import read_index
from detrkit.errors import DetrkitError

Depth = Literal["annotations", "headers", "pixels"]
"""How far a check looks: no image files, their headers and copies, or all their pixels."""


class Examined(NamedTuple):
    """A dataset as it was found: its splits, what is known of their files, and all findings, worst first.

    ``pictures`` and ``contents`` have an entry for each listing, or none where no files were looked at.
    """

    listings: list[Listing]
    pictures: list[list[Picture | None]]
    contents: Sequence[Contents]
    findings: list[Finding]


def examine(root: Path, *, depth: Depth = "headers", queries: int = 100) -> Examined:
    """All that is wrong with a dataset, as far as ``depth`` looks, for a detector of so many queries.

    Raises:
        DetrkitError: The folder has no layout that is known, is a copy with smaller images, or has its images
            in shards where they are to be looked at.
    """
    require_originals(root)
    listings, findings = _read(root)
    if depth != "annotations":
        _require_files(listings)
    for listing in listings:
        findings += check_annotations(listing, queries)
    findings += check_classes(listings)
    if depth == "annotations":
        return Examined(listings, [], [], worst_first(findings))
    pictures, paths = [], []
    for listing in listings:
        present = files_present(listing)
        seen = look_at_all(listing, present, pixels=depth == "pixels")
        findings += check_present(listing, present)
        findings += check_pictures(listing, seen)
        pictures.append(seen)
        paths += [
            listing.folder / n if here else None for n, here in zip(listing.file_names, present, strict=True)
        ]
    digests = contents(paths)
    ends = np.cumsum([0, *(len(listing.file_names) for listing in listings)]).tolist()
    by_split = [digests[start:end] for start, end in pairwise(ends)]
    findings += check_leaks(listings, by_split) + check_unlisted(listings)
    return Examined(listings, pictures, by_split, worst_first(findings))


def quick_check(catalogs: Mapping[str, Catalog], queries: int) -> list[Finding]:
    """What can be found, worst first, in the catalogs of splits without opening a file."""
    listings = [listing_of(catalog, split) for split, catalog in catalogs.items()]
    found = [finding for listing in listings for finding in check_annotations(listing, queries)]
    return worst_first(found + check_classes(listings))


def check_annotations(listing: Listing, queries: int) -> list[Finding]:
    """What is wrong with the annotations of one split by themselves."""
    return [*check_identities(listing), *check_entries(listing), *check_boxes(listing, queries)]


def count_images(listings: Sequence[Listing]) -> tuple[int, int]:
    """The images and the annotations of all splits, those in several splits once."""
    seen: set[Path | tuple[str, int]] = set()
    images = objects = 0
    for listing in listings:
        per_image = np.bincount(listing.owners[listing.owners >= 0], minlength=len(listing.image_ids))
        for row, name in enumerate(listing.file_names):
            key = listing.folder / name if name else (listing.split, row)
            if key not in seen:
                seen.add(key)
                images += 1
                objects += int(per_image[row])
    return images, objects


def _require_files(listings: Sequence[Listing]) -> None:
    for listing in listings:
        index = read_index(listing.folder)
        if index is not None:
            raise DetrkitError(
                f"the images of {listing.source} are in shards, but files are expected to be looked at: "
                f"check {index.origin.source}, from which they were made, or add --no-images."
            )


def _read(root: Path) -> tuple[list[Listing], list[Finding]]:
    """The listings of all splits, and why some have none."""
    layout = recognise(root)
    listings, findings = [], []
    for split in splits(root):
        if layout == "coco":
            listing, found = read_listing(annotations_file(root, split), root / split, split)
            findings += found
            listings += [] if listing is None else [listing]
            continue
        try:
            listings.append(listing_of(read_split(root, split), split))
        except DetrkitError as error:
            reasons = refusals(root, split, layout) or [str(error)]
            findings.append(Finding(ANNOTATIONS_REFUSED, split, len(reasons), tuple(reasons[:EXAMPLES])))
    return listings, findings
