import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import recipe
from detrkit.study.agreement import own_settings, require_agreement, shared_settings

NAMES = ("shapes_plain", "shapes_conditional", "shapes_anchor", "shapes")


def test_the_recipes_of_the_shapes_may_be_compared() -> None:
    recipes = {name: recipe(name) for name in NAMES}
    require_agreement(recipes)
    own = own_settings(recipes)
    assert own["model.decoder.kind"] == ["plain", "conditional", "anchor", "anchor"]
    assert own["model.decoder.denoising.groups"] == [None, None, 0, 5]
    assert "model.backbone.name" not in own
    shared = shared_settings(recipes)
    assert shared["model.backbone.name"] == "resnet18"
    assert not shared.keys() & own.keys()


@pytest.mark.parametrize(
    ("setting", "value", "left", "right"),
    [
        ("model.backbone.name", "resnet34", "'resnet18'", "'resnet34'"),
        ("model.encoder.layers", 1, "2", "1"),
        ("data.batch_size", 8, "16", "8"),
        ("optim.weight_decay", 1e-3, "0.0001", "0.001"),
        ("train.ema", 0.9, "0.999", "0.9"),
    ],
)
def test_what_is_no_part_of_the_question_must_be_the_same(
    setting: str, value: object, left: str, right: str
) -> None:
    recipes = {"one": recipe("shapes_plain"), "other": recipe("shapes", {setting: value})}
    with pytest.raises(DetrkitError) as caught:
        require_agreement(recipes)
    text = str(caught.value)
    assert text.startswith(f"{setting} is {left} in one, but {right} in other: ")
    assert text.endswith(f"--set {setting}=VALUE.")


@pytest.mark.parametrize("setting", ["train.epochs", "train.validate_every", "schedule.drop_at", "loss.l1"])
def test_what_the_study_decides_or_a_recipe_owns_may_differ(setting: str) -> None:
    value = 1 if setting != "schedule.drop_at" else 0.5
    require_agreement({"one": recipe("shapes"), "other": recipe("shapes", {setting: value})})
