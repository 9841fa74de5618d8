"""How many queries change the object that they answer for, from one validation to the next.

This is the measure of DN-DETR (Li et al. 2022, section 3.2): with ``V[n]`` the object that query ``n`` is
matched with, or none, the instability of an image is the number of queries whose ``V[n]`` differs from that
of the epoch before, and the instability of a set of images is their mean. Where validations are not an epoch
apart, neither are its values.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Matched = Sequence[Sequence[int]]
"""For each image, the query that answers for each of its objects; negative where there is none."""


class Instability(NamedTuple):
    """How many queries changed in so many images, and how many could have at most: two for each object."""

    images: int
    changed: int
    most: int

    @property
    def per_image(self) -> float:
        """The figure of the paper: the changed queries of an image."""
        return self.changed / max(self.images, 1)

    @property
    def share(self) -> float:
        """From 0, where every object keeps its query, to 1, where no query of before answers any more."""
        return self.changed / max(self.most, 1)


def instability(before: Matched, after: Matched) -> Instability:
    """What changed between two matchings of the same images with the same objects."""
    changed = most = 0
    for first, second in zip(before, after, strict=True):
        objects, now = (
            {query: place for place, query in enumerate(one) if query >= 0} for one in (first, second)
        )
        changed += sum(objects.get(query) != now.get(query) for query in objects.keys() | now.keys())
        most += len(objects) + len(now)
    return Instability(len(after), changed, most)


def instabilities(validations: Sequence[Mapping[str, Any]]) -> list[Instability | None]:
    """For each validation of a log what changed since the one before; None where that is not known."""
    matched: list[Matched] = [line.get("matched") or [] for line in validations]
    return [
        instability(before, after) if before and len(before) == len(after) else None
        for before, after in zip([[], *matched], matched, strict=False)
    ]
