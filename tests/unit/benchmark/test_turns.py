"""Who is measured when: never all of one before any of another."""

from collections.abc import Sequence

import pytest

from detrkit.benchmark.latency import spread_evenly, time_batches, time_images
from detrkit.benchmark.looking import Look
from detrkit.benchmark.results import Effort, Spread
from detrkit.benchmark.turns import in_turns, spread


class Machine:
    """A clock that only what is recorded here moves: seconds by (entrant, what it does)."""

    def __init__(self, seconds: dict[tuple[str, str], float]) -> None:
        self.now = 0.0
        self.seen: list[tuple[str, str, tuple[int, ...]]] = []
        self._seconds = seconds

    def clock(self) -> float:
        return self.now

    def look(self, name: str, ends: bool = True, largest_batch: int | None = None) -> Look:
        def spend(what: str, places: Sequence[int]) -> None:
            self.seen.append((name, what, tuple(places)))
            self.now += self._seconds[name, what] * len(places)

        def prepare(places: Sequence[int]) -> Sequence[int]:
            spend("prepare", places)
            return places

        def answer(places: Sequence[int]) -> float | None:
            spend("network", places)
            moment = self.now if ends else None
            spend("after", places)
            return moment

        return Look(name, "fp32", prepare, answer, largest_batch)


@pytest.fixture
def machine() -> Machine:
    seconds = {("a", "prepare"): 1.0, ("a", "network"): 4.0, ("a", "after"): 0.5}
    return Machine(seconds | {("b", what): 2 * value for (_, what), value in seconds.items()})


def test_all_have_their_turn_before_any_has_the_next_and_another_begins_each() -> None:
    heard = []
    order = list(in_turns("Latency", ["a", "b", "c"], 3, heard.append))
    assert [turn for turn, _ in order] == [-1] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    assert [member for _, member in order[3:]] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [(event.number, event.turns) for event in heard] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert list(in_turns("Latency", ["a", "b"], 0, heard.append)) == []


def test_entrants_alternate_and_see_the_same_images_in_a_turn(machine: Machine) -> None:
    effort = Effort(turns=3, images=2)
    found = time_images([machine.look("a"), machine.look("b")], 10, effort, machine.clock, lambda event: None)
    assert {key: [len(turn) for turn in turns] for key, turns in found.items()} == {
        ("a", "fp32"): [2, 2, 2],
        ("b", "fp32"): [2, 2, 2],
    }
    answered = [(name, places) for name, what, places in machine.seen if what == "network"]
    names = [name for name, _ in answered]
    assert names == [*"bbbaaa", *"aaabbb", *"bbbaaa", *"aaabbb"]
    for turn in range(4):  # the first to warm up; the first of three looks does not count
        block = answered[6 * turn : 6 * turn + 6]
        seen = {name: [places for other, places in block if other == name] for name in ("a", "b")}
        assert len(seen["a"]) == 3
        assert seen["a"] == seen["b"]


def test_parts_are_what_the_clock_says_and_add_up_to_the_whole(machine: Machine) -> None:
    effort = Effort(turns=2, images=3)
    found = time_images([machine.look("a"), machine.look("b")], 4, effort, machine.clock, lambda event: None)
    for one in (passed for turn in found["b", "fp32"] for passed in turn):
        assert one == pytest.approx((2.0, 8.0, 1.0))
        assert one.whole == pytest.approx(11.0)


def test_where_the_end_of_the_network_is_not_known_it_has_all_of_the_time(machine: Machine) -> None:
    look = machine.look("a", ends=False)
    found = time_images([look], 4, Effort(turns=1, images=1), machine.clock, lambda event: None)
    (one,) = found["a", "fp32"][0]
    assert one.preprocessing == pytest.approx(1.0)
    assert one.network == pytest.approx(4.5)
    assert one.postprocessing is None


def test_throughput_is_without_preprocessing_and_of_batches_that_are_allowed(machine: Machine) -> None:
    looks = [machine.look("a"), machine.look("b", largest_batch=1)]
    effort = Effort(turns=2, batches=(1, 4))
    found = time_batches(looks, 10, effort, machine.clock, lambda event: None)
    assert set(found["a", "fp32"]) == {1, 4}
    assert set(found["b", "fp32"]) == {1}
    assert found["a", "fp32"][4].median == pytest.approx(1 / 4.5)
    assert found["b", "fp32"][1].median == pytest.approx(1 / 9.0)


def test_images_come_from_all_over_the_split() -> None:
    assert spread_evenly(10, 5) == [0, 2, 4, 6, 8]
    assert spread_evenly(2, 4) == [0, 0, 1, 1]


def test_a_spread_is_the_median_and_its_ends() -> None:
    assert spread([3.0, 1.0, 2.5]) == Spread(median=2.5, low=1.0, high=3.0)
