from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detrkit.data.order import Key, image_order, step_keys

seeds = st.integers(0, 2**40)
few = st.integers(1, 4)


def flat(lists: list[list[Key]]) -> list[Key]:
    return list(chain.from_iterable(lists))


@given(seeds, st.integers(0, 1000), st.integers(1, 300))
def test_an_epoch_is_a_permutation(seed: int, epoch: int, num_images: int) -> None:
    order = image_order(seed, epoch, num_images)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_images))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(image_order(seed, epoch, 100).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_place_is_equally_likely() -> None:
    places = np.array([image_order(7, epoch, 8) for epoch in range(4000)])
    counts = np.array([np.bincount(column, minlength=8) for column in places.T])
    assert np.abs(counts - 500).max() < 6 * np.sqrt(500)


def test_an_order_is_shared_and_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        image_order(0, 0, 5)[0] = 1


@given(seeds, st.integers(1, 50), st.integers(0, 40), few, few, few)
def test_processes_and_micro_batches_do_not_change_the_images_of_a_step(
    seed: int, num_images: int, step: int, batch_size: int, accumulate: int, world: int
) -> None:
    per_step = batch_size * accumulate * world
    (together,) = step_keys(seed, num_images, step, per_step, 1, 0, 1)
    ranks = [step_keys(seed, num_images, step, batch_size, accumulate, rank, world) for rank in range(world)]
    assert all([len(micro) for micro in rank] == [batch_size] * accumulate for rank in ranks)
    in_turn = [rank[micro] for micro in range(accumulate) for rank in ranks]
    assert flat(in_turn) == together


@given(seeds, st.integers(1, 50), few, few)
def test_every_image_comes_once_per_epoch(
    seed: int, num_images: int, batch_size: int, accumulate: int
) -> None:
    steps = -(-3 * num_images // (batch_size * accumulate))
    keys = [
        key
        for step in range(steps)
        for key in flat(step_keys(seed, num_images, step, batch_size, accumulate, 0, 1))
    ]
    for epoch in range(3):
        part = keys[epoch * num_images : (epoch + 1) * num_images]
        assert part == [(epoch, index) for index in image_order(seed, epoch, num_images)]


def test_places_of_a_step_by_hand() -> None:
    order = [*((0, index) for index in image_order(1, 0, 5)), *((1, index) for index in image_order(1, 1, 5))]
    assert step_keys(1, 5, 0, batch_size=2, accumulate=2, rank=1, world=2) == [order[2:4], order[6:8]]
