from itertools import chain

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from detrkit.data.order import Key, Order, divide, grouped, mix_all, mix_shards, shuffled, step_keys
from detrkit.errors import DetrkitError

seeds = st.integers(0, 2**40)
few = st.integers(1, 4)
KINDS = ["shuffled", "grouped", "shuffled shards", "grouped shards"]
kinds = st.sampled_from(KINDS)


def order_of(kind: str, seed: int, num_images: int, batch_size: int) -> Order:
    """In shards, there are two images in each, and those of two shards are mixed."""
    mix = mix_shards(np.arange(num_images) // 2, 2) if kind.endswith("shards") else mix_all
    if kind.startswith("shuffled"):
        return shuffled(seed, num_images, mix)
    aspects = np.random.default_rng(num_images).choice([0.5, 0.75, 4 / 3, 1.5], num_images)
    return grouped(seed, lambda _: aspects, batch_size, mix)


def flat(lists: list[list[Key]]) -> list[Key]:
    return list(chain.from_iterable(lists))


@given(kinds, seeds, st.integers(0, 1000), st.integers(1, 300), st.integers(1, 20))
def test_an_epoch_is_a_permutation(
    kind: str, seed: int, epoch: int, num_images: int, batch_size: int
) -> None:
    order = order_of(kind, seed, num_images, batch_size)(epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_images))
    np.testing.assert_array_equal(order, order_of(kind, seed, num_images, batch_size)(epoch))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ(kind: str) -> None:
    orders = {tuple(order_of(kind, seed, 100, 4)(epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_is_equally_likely(kind: str) -> None:
    order = order_of(kind, 7, 8, 2)
    places = np.array([order(epoch) for epoch in range(4000)])
    counts = np.array([np.bincount(column, minlength=8) for column in places.T])
    assert np.abs(counts - 500).max() < 6 * np.sqrt(500)


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_is_shared_and_cannot_be_changed(kind: str) -> None:
    order = order_of(kind, 0, 5, 2)
    assert order(3) is order(3)
    with pytest.raises(ValueError, match="read-only"):
        order(0)[0] = 1


@given(kinds, seeds, st.integers(1, 50), st.integers(0, 40), few, few, few)
def test_processes_and_micro_batches_do_not_change_the_images_of_a_step(
    kind: str, seed: int, num_images: int, step: int, batch_size: int, accumulate: int, world: int
) -> None:
    order, per_step = order_of(kind, seed, num_images, batch_size), batch_size * accumulate * world
    (together,) = step_keys(order, num_images, step, per_step, 1, 0, 1)
    ranks = [step_keys(order, num_images, step, batch_size, accumulate, rank, world) for rank in range(world)]
    assert all([len(micro) for micro in rank] == [batch_size] * accumulate for rank in ranks)
    in_turn = [rank[micro] for micro in range(accumulate) for rank in ranks]
    assert flat(in_turn) == together


@given(kinds, seeds, st.integers(1, 50), few, few)
def test_every_image_comes_once_per_epoch(
    kind: str, seed: int, num_images: int, batch_size: int, accumulate: int
) -> None:
    order = order_of(kind, seed, num_images, batch_size)
    steps = -(-3 * num_images // (batch_size * accumulate))
    keys = [
        key
        for step in range(steps)
        for key in flat(step_keys(order, num_images, step, batch_size, accumulate, 0, 1))
    ]
    for epoch in range(3):
        part = keys[epoch * num_images : (epoch + 1) * num_images]
        assert part == [(epoch, index) for index in order(epoch)]


@given(kinds, seeds, st.integers(1, 50), st.integers(0, 40), few, few, few, st.integers(1, 12))
def test_other_numbers_of_processes_do_the_same_steps(
    kind: str, seed: int, num_images: int, step: int, batch_size: int, accumulate: int, world: int, other: int
) -> None:
    per_step = batch_size * accumulate * world
    assume(per_step % other == 0)
    order = order_of(kind, seed, num_images, batch_size)
    parts = divide(per_step, other, batch_size)
    assert parts.batch_size <= batch_size
    (together,) = step_keys(order, num_images, step, per_step, 1, 0, 1)
    ranks = [step_keys(order, num_images, step, *parts, rank, other) for rank in range(other)]
    in_turn = [rank[micro] for micro in range(parts.accumulate) for rank in ranks]
    assert flat(in_turn) == together


@pytest.mark.parametrize(
    ("images", "world", "at_most", "parts"),
    [(8, 2, 4, (4, 1)), (8, 1, 4, (4, 2)), (8, 8, 4, (1, 1)), (12, 1, 8, (6, 2)), (7, 1, 4, (1, 7))],
)
def test_a_step_is_divided_into_the_fewest_equal_parts(
    images: int, world: int, at_most: int, parts: tuple[int, int]
) -> None:
    assert divide(images, world, at_most) == parts


@pytest.mark.parametrize(("images", "world", "fitting"), [(4, 3, "1, 2, 4"), (6, 12, "1, 2, 3, 6")])
def test_processes_that_cannot_share_a_step_are_refused(images: int, world: int, fitting: str) -> None:
    with pytest.raises(DetrkitError, match=rf"{world} processes .* the {images} images .* \({fitting}\)"):
        divide(images, world, 2)


def test_places_of_a_step_by_hand() -> None:
    order = shuffled(1, 5)
    stream = [*((0, index) for index in order(0)), *((1, index) for index in order(1))]
    assert step_keys(order, 5, 0, batch_size=2, accumulate=2, rank=1, world=2) == [stream[2:4], stream[6:8]]


@pytest.mark.parametrize("world", [1, 2])
def test_batches_within_an_epoch_have_one_aspect_where_there_are_enough(world: int) -> None:
    aspects = np.array([0.75] * 40 + [1.5] * 48)
    order, mixed, across, steps = grouped(5, lambda _: aspects, 8), 0, 0, 33
    for step in range(steps):
        for rank in range(world):
            for micro in step_keys(order, 88, step, 8, 1, rank, world):
                epochs = {epoch for epoch, _ in micro}
                across += len(epochs) > 1
                mixed += len(epochs) == 1 and len({aspects[index] for _, index in micro}) > 1
    assert across == 0
    assert mixed == 0


def test_batches_across_epochs_are_complete_and_the_others_still_grouped() -> None:
    aspects = np.array([0.75] * 45 + [1.5] * 46)  # 91 images: epochs end within batches of 8
    order, mixed, within = grouped(5, lambda _: aspects, 8), 0, 0
    for step in range(8 * 91 // 8):
        (micro,) = step_keys(order, 91, step, 8, 1, 0, 1)
        if len({epoch for epoch, _ in micro}) == 1:
            within += 1
            mixed += len({aspects[index] for _, index in micro}) > 1
    assert within == 84
    assert mixed <= 8  # at most the one in each epoch where one aspect ends and the other begins


def test_neighbours_in_a_batch_change_from_epoch_to_epoch() -> None:
    aspects = np.linspace(0.5, 2, 4096)
    order = grouped(0, lambda _: aspects, 4)
    batches = [{frozenset(batch) for batch in order(epoch).reshape(-1, 4).tolist()} for epoch in range(2)]
    assert len(batches[0] & batches[1]) < 5


def test_images_of_a_shard_stay_together_and_of_so_many_shards_mix() -> None:
    shard = np.random.default_rng(0).permutation(
        np.repeat(np.arange(10), [30, 1, 25, 30, 30, 30, 17, 30, 30, 5])
    )
    random = np.random.default_rng(1)
    for at_once, most in ((1, 1), (3, 3), (4, 4), (9, 5)):  # of 10 shards, 9 at once are two times 5
        came = shard[mix_shards(shard, at_once)(random, len(shard))].tolist()
        spans = {one: range(came.index(one), len(came) - came[::-1].index(one)) for one in range(10)}
        assert max(sum(place in span for span in spans.values()) for place in range(len(came))) == most


@pytest.mark.parametrize("at_once", [0, 3, 4])
def test_few_shards_are_mixed_as_files_are(at_once: int) -> None:
    mix = mix_shards(np.array([0, 2, 1, 0, 1]), at_once)
    np.testing.assert_array_equal(shuffled(5, 5, mix)(2), shuffled(5, 5)(2))


def test_shards_meet_others_in_every_epoch() -> None:
    order = shuffled(0, 64, mix_shards(np.arange(64) // 2, 4))
    groups = [
        {frozenset(group) for group in (order(epoch) // 2).reshape(-1, 8).tolist()} for epoch in range(2)
    ]
    assert all(len(group) == 4 for group in groups[0] | groups[1])
    assert len(groups[0] & groups[1]) == 0
