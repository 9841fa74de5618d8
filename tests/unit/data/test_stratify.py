from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrkit.catalog import Catalog
from detrkit.data.formats.recognise import read_split
from detrkit.data.stratify import random_parts, stratified_parts

CatalogOf = Callable[[Sequence[Sequence[int]], int], Catalog]


def images_of_class(labels: Sequence[Sequence[int]], classes: int, chosen: np.ndarray) -> np.ndarray:
    held = [np.isin(np.arange(classes), labels[image]) for image in chosen]
    return np.sum(held, axis=0, initial=0) if held else np.zeros(classes, int)


sizes_and_labels = st.tuples(
    st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any),
    st.integers(1, 5),
).flatmap(
    lambda given: st.tuples(
        st.just(given[0]),
        st.just(given[1]),
        st.lists(
            st.lists(st.integers(0, given[1] - 1), max_size=5), min_size=sum(given[0]), max_size=sum(given[0])
        ),
    )
)


@settings(max_examples=60, deadline=None)
@given(sizes_and_labels, st.integers(0, 99))
def test_every_part_has_its_size_and_the_seed_decides(catalog_of: CatalogOf, given: tuple, seed: int) -> None:
    sizes, classes, labels = given
    catalog = catalog_of(labels, classes)
    for parts in (stratified_parts(catalog, sizes, seed), random_parts(len(catalog), sizes, seed)):
        assert np.bincount(parts, minlength=len(sizes)).tolist() == sizes
    np.testing.assert_array_equal(
        stratified_parts(catalog, sizes, seed), stratified_parts(catalog, sizes, seed)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 99))
def test_classes_that_never_meet_are_shared_out_to_within_an_image(
    catalog_of: CatalogOf, images: list[int], fraction: float, seed: int
) -> None:
    labels = [[label] for label, number in enumerate(images) for _ in range(number)]
    total = len(labels)
    first = round(fraction * total)
    parts = stratified_parts(catalog_of(labels, len(images)), [first, total - first], seed)
    found = images_of_class(labels, len(images), np.flatnonzero(parts == 0))
    assert np.abs(found - np.array(images) * first / total).max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.integers(0, 99),
)
def test_shares_that_can_be_exact_are(
    catalog_of: CatalogOf, multiples: list[int], ratio: list[int], seed: int
) -> None:
    # Every class has a multiple of the images that one round of sharing takes.
    labels = [[label] for label, number in enumerate(multiples) for _ in range(number * sum(ratio))]
    sizes = [one * sum(multiples) for one in ratio]
    parts = stratified_parts(catalog_of(labels, len(multiples)), sizes, seed)
    for part, share in enumerate(ratio):
        found = images_of_class(labels, len(multiples), np.flatnonzero(parts == part))
        assert found.tolist() == [share * number for number in multiples]


def test_images_that_hold_several_classes_are_shared_out_to_within_an_image(catalog_of: CatalogOf) -> None:
    rng = np.random.default_rng(3)
    frequency = 0.5 / np.arange(1, 21)
    labels = [np.flatnonzero(rng.random(20) < frequency).tolist() for _ in range(1000)]
    catalog = catalog_of(labels, 20)
    sizes = [700, 200, 100]
    everything = images_of_class(labels, 20, np.arange(1000))
    parts = stratified_parts(catalog, sizes, 0)
    blind = random_parts(1000, sizes, 0)
    for part, size in enumerate(sizes):
        wanted = everything * size / 1000
        found = images_of_class(labels, 20, np.flatnonzero(parts == part))
        assert np.abs(found - wanted).max() <= 1.5
        assert np.abs(images_of_class(labels, 20, np.flatnonzero(blind == part)) - wanted).max() > 3


def test_another_seed_gives_other_parts(catalog_of: CatalogOf) -> None:
    labels = [[number % 3] for number in range(60)]
    catalog = catalog_of(labels, 3)
    for draw in (
        lambda seed: stratified_parts(catalog, [30, 30], seed),
        lambda seed: random_parts(60, [30, 30], seed),
    ):
        assert len({tuple(draw(seed).tolist()) for seed in range(5)}) == 5


def test_every_image_may_be_drawn(catalog_of: CatalogOf) -> None:
    catalog = catalog_of([[0]] * 10, 1)
    times = sum((stratified_parts(catalog, [2, 8], seed) == 0).astype(int) for seed in range(200))
    # 200 draws of 2 in 10: 40 each, and a deviation of 5.7
    assert np.abs(times - 40).max() < 28


def test_on_real_images_shares_are_kept(shared: Path) -> None:
    catalog = read_split(shared / "coco-mini", "train2017")
    labels = [catalog.labels[catalog.rows(image)].tolist() for image in range(len(catalog))]
    classes = len(catalog.categories)
    everything = images_of_class(labels, classes, np.arange(len(catalog)))

    def off(parts: np.ndarray) -> np.ndarray:
        return np.abs(images_of_class(labels, classes, np.flatnonzero(parts == 1)) - everything / 4)

    found = [off(stratified_parts(catalog, [192, 64], seed)) for seed in range(5)]
    blind = [off(random_parts(256, [192, 64], seed)) for seed in range(5)]
    assert np.mean(found) < 0.5 * np.mean(blind)
    assert np.max(found) <= 3 < np.max(blind)


@pytest.mark.parametrize("sizes", [[5], [0, 5], [5, 0]])
def test_a_part_may_be_all_or_nothing(catalog_of: CatalogOf, sizes: list[int]) -> None:
    parts = stratified_parts(catalog_of([[0], [], [1, 0], [1], []], 2), sizes, 0)
    assert np.bincount(parts, minlength=len(sizes)).tolist() == sizes
