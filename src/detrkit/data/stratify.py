"""Which part of a dataset each image goes to: by chance, or so that every class is shared out alike.

The shares of classes are kept by iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the
Stratification of Multi-Label Data, ECML PKDD 2011): of all classes the one with the fewest images left goes
first, and each of its images to the part that still wants most images of it. Two things differ. What a part
wants is rounded up, so that parts which differ by less than an image are equal; of those, the one gets the
image that is furthest behind in its other classes and in its size. And parts that are full get no more, so
that their sizes are exact. Two parts then have each of several classes that never meet to within an image.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog


def random_parts(total: int, sizes: Sequence[int], seed: int) -> Int64[np.ndarray, " images"]:
    """The part of each of ``total`` images, all partitions into these sizes being equally likely."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def stratified_parts(catalog: Catalog, sizes: Sequence[int], seed: int) -> Int64[np.ndarray, " images"]:
    """The part of each image, such that each has the same share of the images of every class, if it can be.

    Sizes add up to the number of images. Crowds count as objects of their class.
    """
    order = np.random.default_rng(seed).permutation(len(catalog))
    labels_of, images_of = _memberships(catalog, order)
    deal = _Deal(sizes, [len(images) for images in images_of])
    part_of = [-1] * len(catalog)
    while (rarest := deal.rarest()) is not None:
        for image in images_of[rarest]:
            if part_of[image] < 0:
                part_of[image] = deal.give(rarest, labels_of[image])
    return np.array(part_of, np.int64)


class _Deal:
    """What is left to share out. All is counted in images times their number, which keeps shares whole."""

    def __init__(self, sizes: Sequence[int], images_of_label: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._total = sum(sizes)
        self._left = list(images_of_label)
        self._room = list(sizes)
        self._wanted = [[images * size for size in sizes] for images in images_of_label]

    def rarest(self) -> int | None:
        """The label with the fewest images left, if any has some."""
        labels = (label for label, left in enumerate(self._left) if left)
        return min(labels, key=self._left.__getitem__, default=None)

    def give(self, label: int, labels: list[int]) -> int:
        """The part that gets an image with these labels, one of which is shared out now."""

        def need(part: int) -> tuple[int, int]:
            size, others = self._sizes[part], (one for one in labels if one != label)
            whole_images = -(-self._wanted[label][part] // self._total)
            return whole_images, sum(self._wanted[one][part] - size * self._left[one] for one in others)

        chosen = max((part for part, room in enumerate(self._room) if room), key=need)
        self._room[chosen] -= 1
        for one in labels:
            self._left[one] -= 1
            self._wanted[one][chosen] -= self._total
        return chosen


def _memberships(
    catalog: Catalog, order: Int64[np.ndarray, " images"]
) -> tuple[list[list[int]], list[list[int]]]:
    """The labels of each image, and the images of each label in the given order.

    One label more than there are classes is that of every image: sizes are shares of it.
    """
    classes = len(catalog.categories)
    labels_of = [[classes] for _ in range(len(catalog))]
    images_of: list[list[int]] = [[] for _ in range(classes)]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    places = np.repeat(place, np.diff(catalog.offsets))
    places, labels = np.divmod(np.unique(places * classes + catalog.labels), classes)
    for image, label in zip(order[places].tolist(), labels.tolist(), strict=True):
        labels_of[image].append(label)
        images_of[label].append(image)
    return labels_of, [*images_of, order.tolist()]
