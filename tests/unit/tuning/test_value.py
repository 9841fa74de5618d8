from hypothesis import given
from hypothesis.strategies import floats

from detrkit.tuning.value import value_of

AP = floats(-1, 1)
LOSS = floats(0, 1e6)


@given(AP, AP, LOSS, LOSS)
def test_whoever_finds_something_is_above_all_that_do_not(
    one: float, other: float, a: float, b: float
) -> None:
    if other < 0.001 <= one:
        assert value_of(other, b) <= 0 < value_of(one, a)


@given(AP, AP, LOSS, LOSS)
def test_among_those_that_find_something_the_ap_alone_decides(
    one: float, other: float, a: float, b: float
) -> None:
    if 0.001 <= other < one:
        assert value_of(other, b) < value_of(one, a)


@given(floats(-1, 0.0009), floats(-1, 0.0009), floats(0, 1000), floats(1e-3, 1000))
def test_among_those_that_find_nothing_the_lower_loss_is_above(
    one: float, other: float, loss: float, more: float
) -> None:
    assert -1 < value_of(other, loss + more) < value_of(one, loss)
