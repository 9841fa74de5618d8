import json
from itertools import combinations, product

import numpy as np
import pytest

from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.gather import settings_of
from detrkit.monitoring.doctor.history import STRETCHES, course_of
from detrkit.monitoring.doctor.learning import plateau_of
from detrkit.settings.experiment import recipe


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


def test_steps_that_tell_of_other_terms_and_groups_are_medians_of_those_that_do() -> None:
    lines = [line(step, 2.0, update_ratios={"rest": 0.1 * step}) for step in range(1, 81)]
    for other in lines[1::2]:
        other["update_ratios"] = {"backbone": 0.5}
        del other["terms"]
    first = course_of(lines).stretches[0]  # of two steps
    assert (first.last, first.ratios, first.terms) == (2, {"rest": 0.1}, {})


def test_any_numbers_that_a_log_may_have_are_judged() -> None:
    """Every pair of extremes, in logs of steps alone and with validations."""
    extremes: dict[str, list[object]] = {
        "loss": [0.0, -1.0, 1e308, 1e-320, float("inf"), float("nan")],
        "seconds": [0.0, 1e12, 1e-320],
        "terms": [{}, {"giou": [1e308]}, {"giou": [0.0, 0.0]}, {"giou": [float("nan"), -1.0]}],
        "gradient_norm": [float("inf"), -1.0],
        "update_ratios": [None, {}, {"rest": 1e308}, {"rest": 0.0, "backbone": -1.0}, {"rest": float("nan")}],
        "learning_rates": [{}, {"rest": float("nan")}, {"rest": 1e308}],
        "images": [0, 2**53],
    }
    found = {"event": "validation", "metrics": {"AP": -1.0, "AP50": 1.0}, "raw": {"AP": 1.0, "AP50": 0.0}}
    settings = settings_of(recipe("shapes"))
    for (one, values), (other, others) in combinations(extremes.items(), 2):
        for value, another in product(values, others):
            lines = [line(step, 3.0 / step) | {one: value, other: another} for step in range(1, 21)]
            for ended in (lines, [*lines, *({**found, "step": step, "epoch": 1.0} for step in range(5))]):
                course = course_of(ended, 20)
                for ailment in diagnose(Facts(settings, (0, 2**53), "finished", course)):
                    json.dumps(ailment.to_dict())
