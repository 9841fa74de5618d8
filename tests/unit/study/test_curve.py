import pytest

from detrkit.study.curve import Point, best_point, curve_of, first_with, last_loss


def step(number: int, seconds: float, loss: float = 1.0) -> dict[str, object]:
    return {"event": "step", "step": number, "seconds": seconds, "loss": loss}


def validation(number: int, ap: float) -> dict[str, object]:
    return {"event": "validation", "step": number, "epoch": number / 4, "metrics": {"AP": ap, "AP50": 2 * ap}}


LOG = [step(1, 0.5), step(2, 1.5), validation(2, 0.1), step(3, 2.0), validation(3, 0.3), validation(3, 0.2)]


def test_a_curve_counts_the_seconds_of_the_steps_before_each_validation() -> None:
    assert curve_of(LOG, images_per_step=16) == [
        Point(2, 0.5, 32, 2.0, 0.1, 0.2),
        Point(3, 0.75, 48, 4.0, 0.3, 0.6),
        Point(3, 0.75, 48, 4.0, 0.2, 0.4),
    ]


@pytest.mark.parametrize(("ap", "seconds"), [(0.05, 2.0), (0.1, 2.0), (0.11, 4.0), (0.3, 4.0)])
def test_a_level_is_reached_at_the_first_validation_that_has_it(ap: float, seconds: float) -> None:
    found = first_with(curve_of(LOG, 16), ap)
    assert found is not None
    assert found.seconds == seconds


def test_a_level_above_all_is_not_reached() -> None:
    assert first_with(curve_of(LOG, 16), 0.31) is None
    assert first_with([], 0.0) is None


def test_the_best_point_is_the_first_of_equals() -> None:
    early, late = Point(1, 0.1, 1, 1.0, 0.5, 0.5), Point(2, 0.2, 2, 2.0, 0.5, 0.6)
    assert best_point([early, late]) is early
    assert best_point([]) is None


def test_the_last_loss_is_the_mean_of_the_last_tenth() -> None:
    assert last_loss([step(number, 1.0, loss=number) for number in range(1, 41)]) == (37 + 38 + 39 + 40) / 4
    assert last_loss([step(1, 1.0, loss=3.0), validation(1, 0.1)]) == 3.0
    assert last_loss([]) is None
