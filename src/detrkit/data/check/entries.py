"""Faults of the entries of images, and whether their files are there."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from detrkit.data.check.faults import (
    FILE_NAME_MISSING,
    FILE_NAME_OUTSIDE,
    FILE_NAME_REPEATS,
    IMAGE_MISSING,
    IMAGE_UNLISTED,
    SIZE_INVALID,
)
from detrkit.data.check.findings import Finding, findings_of
from detrkit.data.check.listing import Listing, repeated_names
from detrkit.data.names import stays_inside
from detrkit.data.suffixes import SUFFIXES


def check_entries(listing: Listing) -> list[Finding]:
    """What is wrong with the file names and sizes that a split states for its images."""
    split = listing.split
    named = np.array([bool(name) for name in listing.file_names], np.bool_)
    invalid = (listing.widths < 1) | (listing.heights < 1)
    return [
        *findings_of(FILE_NAME_MISSING, split, ~named, listing.image),
        *findings_of(FILE_NAME_OUTSIDE, split, leaves_folder(listing), listing.image),
        *findings_of(FILE_NAME_REPEATS, split, repeated_files(listing), listing.image),
        *findings_of(
            SIZE_INVALID,
            split,
            invalid,
            lambda row: f"{listing.image(row)}: {listing.widths[row]} x {listing.heights[row]}",
        ),
    ]


def check_present(listing: Listing, present: Bool[np.ndarray, " images"]) -> list[Finding]:
    """Which images of a split have no file."""
    missing = ~present & ~leaves_folder(listing) & np.array([bool(n) for n in listing.file_names], np.bool_)
    return findings_of(
        IMAGE_MISSING, listing.split, missing, lambda row: str(listing.folder / listing.file_names[row])
    )


def check_unlisted(listings: Sequence[Listing]) -> list[Finding]:
    """Which image files in the folders of splits are of no image of theirs."""
    found = []
    for folder in dict.fromkeys(listing.folder for listing in listings):
        sharing = [listing for listing in listings if listing.folder == folder]
        named = {os.path.normpath(name) for listing in sharing for name in listing.file_names}
        unlisted = sorted(file for file in _images(folder) if file not in named)
        where = ", ".join(listing.split for listing in sharing)
        found += findings_of(
            IMAGE_UNLISTED, where, range(len(unlisted)), lambda row, files=unlisted: files[row]
        )
    return found


def files_present(listing: Listing) -> Bool[np.ndarray, " images"]:
    """Which images have a file inside their folder."""
    leaves = leaves_folder(listing)
    names = [name.rpartition("/") for name in listing.file_names]
    here = {
        inner: _names_of_files(listing.folder / inner)
        for inner in {inner for (inner, _, _), away in zip(names, leaves, strict=True) if not away}
    }
    return np.array(
        [not away and name in here[inner] for (inner, _, name), away in zip(names, leaves, strict=True)],
        np.bool_,
    )


def leaves_folder(listing: Listing) -> Bool[np.ndarray, " images"]:
    """Which file names are absolute, climb out of their folder, or are longer than any file's."""
    return np.array([name != "" and not stays_inside(name) for name in listing.file_names], np.bool_)


def repeated_files(listing: Listing) -> Bool[np.ndarray, " images"]:
    """Which entries name the file of an earlier one."""
    named = np.array([name != "" for name in listing.file_names], np.bool_)
    return repeated_names(listing.file_names) & named


def _names_of_files(folder: Path) -> set[str]:
    """The names of the files in a folder, links to files among them; none if there is no folder."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as found:
        return {one.name for one in found if one.is_file()}


def _images(folder: Path) -> Iterator[str]:
    """The image files in a folder and its inner folders, relative to it."""
    for where, _, names in os.walk(folder):
        inner = os.path.relpath(where, folder)
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield name if inner == "." else f"{inner}/{name}"
