"""Faults of the boxes of one split, and of what else annotations say about their objects."""

import numpy as np
from jaxtyping import Bool

from detrkit.data.check.faults import (
    AREA_WRONG,
    BOX_BEYOND,
    BOX_NEGATIVE,
    BOX_NOT_FINITE,
    BOX_NOT_NUMBERS,
    BOX_OUTSIDE,
    BOX_REPEATS,
    BOX_TINY,
    BOX_WITHOUT_AREA,
    BOXES_NORMALISED,
    BOXES_ONE_BASED,
    BOXES_WRONG_ORDER,
    CROWDS,
    IMAGES_WITHOUT_OBJECTS,
    TOO_MANY_OBJECTS,
)
from detrkit.data.check.findings import Fault, Finding, findings_of
from detrkit.data.check.listing import Listing

ROUNDING = 0.02
"""Pixels by which a box may reach outside its image: COCO rounds to hundredths."""

EVIDENCE = 4
"""So many boxes must agree before all are said to be written in another convention."""

Mask = Bool[np.ndarray, " annotations"]


def check_boxes(listing: Listing, queries: int) -> list[Finding]:
    """What is wrong with the boxes of a split, for a detector of so many queries."""
    convention = wrong_convention(listing)
    finite = np.all(np.isfinite(listing.boxes), axis=1)
    chosen: list[tuple[Fault, Mask]] = [
        (BOX_NOT_NUMBERS, ~listing.numbers),
        (BOX_NOT_FINITE, listing.numbers & ~finite),
    ]
    if convention is not None and convention is not BOXES_ONE_BASED:
        chosen.append((convention, finite))  # each box by itself would be found at fault too
    else:
        chosen += _single_boxes(listing, finite)
    if convention is BOXES_ONE_BASED:
        chosen.append((BOXES_ONE_BASED, finite & np.any(listing.boxes[:, :2] == 1, axis=1)))
    chosen += [(BOX_REPEATS, repeated_boxes(listing)), (CROWDS, listing.crowds)]
    if convention is None:
        chosen.append((AREA_WRONG, wrong_areas(listing)))
    found = [
        finding for fault, mask in chosen for finding in findings_of(fault, listing.split, mask, listing.box)
    ]
    return found + _counts(listing, queries)


def wrong_convention(listing: Listing) -> Fault | None:
    """The convention in which the boxes of a split seem to be written, if it is not COCO's."""
    sizes = listing.sizes()
    usable = np.isfinite(listing.boxes).all(axis=1) & np.isfinite(sizes).all(axis=1) & ~listing.crowds
    if usable.sum() < EVIDENCE:
        return None
    boxes, sizes = listing.boxes[usable], sizes[usable]
    if _is_normalised(boxes, sizes):
        return BOXES_NORMALISED
    if _is_wrong_order(boxes, sizes):
        return BOXES_WRONG_ORDER
    return BOXES_ONE_BASED if _is_one_based(boxes, sizes) else None


def repeated_boxes(listing: Listing) -> Mask:
    """Which annotations have the image, class and box of an earlier one.

    A random projection of all six numbers brings equal ones together by a single sort.
    """
    columns = np.column_stack([listing.owners, listing.labels, listing.boxes])
    weights = np.random.default_rng(0).uniform(1, 2, 6)
    with np.errstate(invalid="ignore", over="ignore"):
        order = np.argsort(columns @ weights, kind="stable")
    again = np.zeros(len(columns), np.bool_)
    again[order[1:]] = (columns[order[1:]] == columns[order[:-1]]).all(axis=1)
    return again & (listing.owners >= 0) & ~listing.crowds


def wrong_areas(listing: Listing) -> Mask:
    """Which areas are negative or more than their box's, allowing for what rounding does."""
    with np.errstate(invalid="ignore", over="ignore"):
        box_areas = np.abs(listing.boxes[:, 2] * listing.boxes[:, 3])
        limit = (np.abs(listing.boxes[:, 2]) + 1) * (np.abs(listing.boxes[:, 3]) + 1)  # whole pixels touched
        wrong = (listing.areas < 0) | (listing.areas > limit) | np.isinf(listing.areas)
    return wrong & (box_areas > 0)


def _is_normalised(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    return bool((boxes <= 1 + 1e-6).all() and (boxes >= -1e-6).all() and (sizes > 2).all())


def _is_wrong_order(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether the last two numbers always are a corner inside, and often too large for a width or height."""
    corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= sizes + 1).all(axis=1)
    overflow = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(axis=1)
    return bool(corners.mean() >= 0.99 and overflow.sum() >= EVIDENCE and overflow.mean() >= 0.2)


def _is_one_based(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether nothing touches 0, as objects at the border do, but much touches 1 or the side plus 1."""
    if (boxes[:, :2] < 1).any():
        return False
    at_one = (boxes[:, :2] == 1).any(axis=1)
    beyond = ((boxes[:, :2] + boxes[:, 2:]) == sizes + 1).any(axis=1)
    enough = max(EVIDENCE, 0.02 * len(boxes))
    return bool(at_one.any() and (at_one | beyond).sum() >= enough)


def _single_boxes(listing: Listing, finite: Mask) -> list[tuple[Fault, Mask]]:
    """Boxes that are at fault by themselves, each for one reason."""
    with np.errstate(invalid="ignore", over="ignore"):
        start, size = listing.boxes[:, :2], listing.boxes[:, 2:]
        sizes = listing.sizes()
        negative = finite & (size < 0).any(axis=1)
        empty = finite & ~negative & (size == 0).any(axis=1)
        whole = finite & ~negative & ~empty
        beyond = whole & ((start >= sizes) | (start + size <= 0)).any(axis=1)
        outside = whole & ~beyond & ((start < -ROUNDING) | (start + size > sizes + ROUNDING)).any(axis=1)
        tiny = whole & ~beyond & (size <= 1).any(axis=1)
    return [
        (BOX_NEGATIVE, negative),
        (BOX_WITHOUT_AREA, empty),
        (BOX_BEYOND, beyond),
        (BOX_OUTSIDE, outside),
        (BOX_TINY, tiny),
    ]


def _counts(listing: Listing, queries: int) -> list[Finding]:
    objects = listing.objects()
    many = np.flatnonzero(objects > queries)
    many = many[np.argsort(-objects[many], kind="stable")]
    return [
        *findings_of(
            TOO_MANY_OBJECTS,
            listing.split,
            many,
            lambda row: f"{listing.image(row)}: {objects[row]} objects for {queries} queries",
        ),
        *findings_of(
            IMAGES_WITHOUT_OBJECTS,
            listing.split,
            (objects == 0) if objects.any() else np.zeros(len(objects), np.bool_),
            listing.image,
        ),
    ]
