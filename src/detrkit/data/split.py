"""A catalog in several parts, each image in one of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog
from detrkit.data.stratify import random_parts, stratified_parts
from detrkit.data.subset import take_images


def originals(contents: Sequence[str]) -> Int64[np.ndarray, " images"]:
    """For each image the first one with the same content, for which ``contents`` are equal."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(content, image) for image, content in enumerate(contents)], np.int64)


def split(
    catalog: Catalog,
    original_of: Int64[np.ndarray, " images"],
    counts: Mapping[str, int],
    seed: int,
    *,
    stratified: bool,
) -> dict[str, Int64[np.ndarray, " _"]]:
    """The positions of the images of each part, in the catalog's order.

    Args:
        catalog: All images.
        original_of: For each image the first with the same content. Copies go where theirs goes.
        counts: How many originals each part gets, all together.
        seed: Another one gives other parts.
        stratified: Each part gets the same share of the images of every class, as far as that can be.
    """
    distinct, sizes = np.unique(original_of), list(counts.values())
    if stratified:
        parts = stratified_parts(take_images(catalog, distinct), sizes, seed)
    else:
        parts = random_parts(len(distinct), sizes, seed)
    part_of = parts[np.searchsorted(distinct, original_of)]
    return {name: np.flatnonzero(part_of == number) for number, name in enumerate(counts)}
