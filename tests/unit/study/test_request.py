from pathlib import Path
from typing import Any

import pytest

from detrkit.errors import DetrkitError
from detrkit.study.pace import Pace
from detrkit.study.plan import make_plan, read_plan, write_plan
from detrkit.study.request import Request, read_request
from detrkit.study.trial import full_trial, longer_trial, rate_name, settings_of, sweep_trial

BOTH = ["shapes_plain", "shapes"]


def request(recipes: list[str] = BOTH, budget: str = "5m", **asked: Any) -> Request:
    return read_request(recipes, Path("shapes"), budget, **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"recipes": ["shapes", "shapes"]}, "recipe shapes is given 2 times"),
        ({"recipes": ["shapse"]}, "shapes"),
        ({"recipes": ["shapes", "detr_r50"]}, "is 16 in shapes, but 2 in detr_r50"),
        ({"budget": "soon"}, "--budget: 'soon' is not a duration"),
        ({"rates": [1e-4, 1e-4]}, "--rate 0.0001 is given 2 times"),
        ({"rates": [0.0]}, "--rate 0 is no learning rate"),
        ({"rates": [float("nan")]}, "--rate nan is no learning rate"),
        ({"longer": ["20m"]}, "write it as RECIPE=DURATION"),
        (
            {"longer": ["detr_r50=20m"]},
            "detr_r50 is not a recipe of this study, which are shapes_plain, shapes",
        ),
        ({"longer": ["shapes=long"]}, "--longer shapes=long: 'long' is not a duration"),
        ({"longer": ["shapes=1m", "shapes=2m"]}, "--longer shapes is given 2 times"),
        ({"assignments": ["optim.lr=1e-4"]}, "--set optim.lr is decided by the study: say it with --rate"),
        ({"assignments": ["train.max_steps=5"]}, "say it with --budget"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_told_in_a_sentence(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(DetrkitError) as caught:
        request(**asked)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def plan_of(asked: Request) -> Any:
    paces = {"shapes_plain": Pace(0.25, 16, 320, 20), "shapes": Pace(0.5, 16, 320, 20)}
    return make_plan(asked, {"processor": "some"}, paces)


def test_the_budget_becomes_steps_at_each_recipes_pace() -> None:
    plan = plan_of(request(longer=["shapes_plain=20m"]))
    assert plan.steps == {"shapes_plain": (240, 1200, 4800), "shapes": (120, 600, None)}


def test_a_plan_that_was_written_is_read_for_the_same_request_alone(tmp_path: Path) -> None:
    asked = request(command="detrkit study", longer=["shapes_plain=20m"])
    plan = plan_of(asked)
    write_plan(tmp_path / "plan.json", plan)
    again = request(command="another way to say it", longer=["shapes_plain=20m"])
    assert read_plan(tmp_path / "plan.json", again) == plan
    for other, words in (
        (request(budget="6m", longer=["shapes_plain=20m"]), "budget = 300.0, not 360.0"),
        (request(), "longer.shapes_plain = 1200.0, not unset"),
        (request(longer=["shapes_plain=20m"], seed=3), "seed = 0, not 3"),
        (request(longer=["shapes_plain=20m"], assignments=["loss.l1=2"]), "loss.l1 = 5.0, not 2.0"),
    ):
        with pytest.raises(DetrkitError, match=words) as caught:
            read_plan(tmp_path / "plan.json", other)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 0}'])
def test_a_damaged_plan_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DetrkitError, match=r"plan\.json .*choose another --out"):
        read_plan(tmp_path / "plan.json", request())


def test_a_run_has_the_recipes_settings_at_its_own_rate_and_length() -> None:
    plan = plan_of(request(assignments=["optim.backbone_lr=1e-4"], longer=["shapes=10m"]))
    ratio = 1e-4 / plan.request.recipes["shapes"].optim.lr
    for trial, steps, validations in (
        (sweep_trial(plan, "shapes", 3e-4), 120, 1),
        (full_trial(plan, "shapes", 3e-4), 600, 12),
        (longer_trial(plan, "shapes", 3e-4), 1200, 12),
    ):
        found = settings_of(trial, plan)
        assert (found.optim.lr, found.optim.backbone_lr) == (3e-4, pytest.approx(3e-4 * ratio))
        assert (found.train.max_steps, found.train.budget) == (steps, None)
        # 320 images, 16 per step
        assert found.train.validate_every == pytest.approx(steps * 16 / 320 / validations)
        before = plan.request.recipes["shapes"]
        assert found.model_copy(update={"optim": before.optim, "train": before.train}) == before


@pytest.mark.parametrize(("rate", "name"), [(1e-4, "1e-4"), (2.5e-3, "2.5e-3"), (1.0, "1e0"), (3e-4, "3e-4")])
def test_a_rates_folder_has_its_name(rate: float, name: str) -> None:
    assert rate_name(rate) == name
