"""The measure of DN-DETR, counted by hand from its definition (Li et al. 2022, section 3.2)."""

import numpy as np
import pytest

from detrkit.monitoring.instability import Instability, instabilities, instability


def by_definition(before: list[int], after: list[int], queries: int) -> int:
    """How many entries of the index vectors V differ, of so many queries."""
    vectors = np.full((2, queries), -1)
    for vector, matched in zip(vectors, (before, after), strict=True):
        for place, query in enumerate(matched):
            vector[query] = place
    return int((vectors[0] != vectors[1]).sum())


@pytest.mark.parametrize(
    ("before", "after", "changed", "most"),
    [
        ([[4, 2]], [[4, 2]], 0, 4),  # V = (-1, -1, 1, -1, 0) both times
        ([[4, 2]], [[2, 4]], 2, 4),  # both queries answer for the other object
        ([[4, 2]], [[4, 3]], 2, 4),  # one takes over from another
        ([[4, 2]], [[2, 3]], 3, 4),  # 4 is let go, 2 has another object, 3 is new
        ([[4, 2]], [[1, 3]], 4, 4),  # all of them are others
        ([[4, -1]], [[-1, 4]], 1, 2),  # two objects and one query, which answers for the other
        ([[]], [[]], 0, 0),
    ],
)
def test_an_image_counts_the_queries_whose_object_differs(
    before: list[list[int]], after: list[list[int]], changed: int, most: int
) -> None:
    assert instability(before, after) == Instability(1, changed, most)


def test_many_images_are_counted_as_index_vectors_say() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(0, 8, 50)
    one, other = ([random.permutation(10)[:size].tolist() for size in sizes] for _ in range(2))
    expected = [by_definition(first, second, 10) for first, second in zip(one, other, strict=True)]
    found = instability(one, other)
    assert found.per_image == pytest.approx(np.mean(expected))
    assert found.share == pytest.approx(sum(expected) / (2 * sizes.sum()))


def test_a_log_has_a_value_for_each_validation_after_the_first_that_tells_its_matches() -> None:
    validations = [{}, {"matched": [[0], [1]]}, {"matched": [[0], [2]]}, {"matched": [[0]]}, {"matched": []}]
    assert instabilities(validations) == [None, None, Instability(2, 2, 4), None, None]
