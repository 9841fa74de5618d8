import numpy as np
import pytest

from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.history import STRETCHES, course_of
from detrkit.monitoring.doctor.learning import plateau_of


def line(step: int, loss: float, **more: object) -> dict[str, object]:
    return {
        "event": "step",
        "step": step,
        "loss": loss,
        "terms": {"giou": [0.8, loss / 10], "denoising_giou": [0.1, 0.1]},
        "gradient_norm": 3.0,
        "update_ratios": {"rest": 1e-3 * step} if step % 10 == 1 else None,
        "learning_rates": {"rest": 1e-4},
        "seconds": 0.5,
        "data_seconds": 0.1,
        **more,
    }


def facts(losses: np.ndarray) -> Facts:
    lines = [line(step, float(loss)) for step, loss in enumerate(losses, start=1)]
    return Facts(settings={}, parameters=(1, 1), state="finished", course=course_of(lines))


def test_stretches_are_medians_of_equal_parts_of_the_log() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 400)
    course = facts(losses).course
    assert len(course.stretches) == STRETCHES
    assert [stretch.loss for stretch in course.stretches] == pytest.approx(
        np.median(losses.reshape(40, 10), axis=1)
    )
    assert course.stretches[-1].last == 400
    assert course.stretches[0].ratios == {"rest": 1e-3}
    assert course.stretches[0].waiting == pytest.approx(0.2)
    assert course.stretches[0].terms.keys() == {"giou"}
    assert course.first_loss == pytest.approx(np.median(losses[:5]))


def test_a_short_log_has_a_stretch_for_every_step() -> None:
    assert [stretch.loss for stretch in facts(np.array([3.0, 2.0, 1.0])).course.stretches] == [3.0, 2.0, 1.0]


def test_an_empty_log_has_none() -> None:
    course = course_of([], 100)
    assert (course.stretches, course.progress, course.best_ap) == ([], 0.0, 0.0)


def test_what_ended_a_run_is_known_from_its_last_line_or_a_loss_that_is_none() -> None:
    failed = course_of(
        [line(1, 2.0), {"event": "failed", "step": 1, "error": "the loss is not finite in x.png"}]
    )
    assert "x.png" in failed.error
    silent = course_of([line(1, 2.0), line(2, float("nan"))])
    assert "step 2 is not finite" in silent.error
    assert len(silent.stretches) == 1


@pytest.mark.parametrize("knee", [80, 120, 200])
def test_the_change_point_is_where_two_lines_meet(knee: int) -> None:
    steps = np.arange(400)
    noise = np.random.default_rng(1).normal(0, 0.03, 400)
    falling = np.exp(3 - 2 * np.minimum(steps, knee) / knee + noise)
    plateau = plateau_of(facts(falling))
    assert plateau is not None
    assert abs(plateau.step - knee) <= 20
    assert plateau.confidence > 0.99
    assert abs(plateau.fell_after) < 0.05


def test_a_steady_fall_has_no_sure_change_point() -> None:
    noise = np.random.default_rng(2).normal(0, 0.05, 400)
    plateau = plateau_of(facts(np.exp(3 - np.arange(400) / 200 + noise)))
    assert plateau is not None
    assert plateau.confidence < 0.95
