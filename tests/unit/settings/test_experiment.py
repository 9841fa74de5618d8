import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from detrkit.errors import DetrkitError, shown
from detrkit.settings.experiment import (
    Experiment,
    parse,
    parse_overrides,
    recipe,
    to_toml,
)
from detrkit.settings.recipes import recipe_names, recipe_summary
from detrkit.settings.section import describe

SOME_OF_EACH_KIND = {
    "data.short_sides": [64, 96],
    "data.max_size": 128,
    "data.train_split": 'a "quoted" split, ü',
    "model.backbone.weights": "none",
    "model.backbone.norm": "batch",
    "model.transformer.pre_norm": True,
    "optim.lr": 2e-4,
    "schedule.drop_at": 1,
    "train.budget": "5m",
}


def refusal(overrides: dict[str, object]) -> str:
    with pytest.raises(DetrkitError) as caught:
        recipe("detr_r50", overrides)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def leaves(tree: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_a_number_of_any_length_is_refused_in_a_sentence() -> None:
    for digits in (20, 4000, 5000):
        text = refusal(parse_overrides([f"train.max_steps={'9' * digits}"]))
        assert "train.max_steps" in text
        assert len(text) < 300


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_complete_and_says_what_it_is(name: str) -> None:
    assert isinstance(recipe(name), Experiment)
    assert len(recipe_summary(name)) > 20


def test_the_published_recipes_are_among_them() -> None:
    assert {"detr_r50", "detr_r50_dc5", "detr_r101", "detr_r101_dc5", "shapes"} <= set(recipe_names())


def test_the_recipe_of_the_paper_has_the_papers_numbers() -> None:
    # Carion et al. 2020, sections 3.1 and 4 and appendix A.4; published code, main.py.
    expected = {
        "data.short_sides": tuple(range(480, 801, 32)),
        "data.max_size": 1333,
        "data.eval_short_side": 800,
        "model.backbone.name": "resnet50",
        "model.transformer.width": 256,
        "model.transformer.heads": 8,
        "model.transformer.feedforward": 2048,
        "model.transformer.dropout": 0.1,
        "model.encoder.layers": 6,
        "model.decoder.layers": 6,
        "model.decoder.queries": 100,
        "scoring.no_object": 0.1,
        "matching.classification": 1,
        "matching.l1": 5,
        "matching.giou": 2,
        "loss.l1": 5,
        "loss.giou": 2,
        "optim.lr": 1e-4,
        "optim.backbone_lr": 1e-5,
        "optim.weight_decay": 1e-4,
        "optim.clip_norm": 0.1,
        "train.epochs": 500,
        "schedule.drop_at": 400 / 500,
        "published.ap": 42.0,
        "schedule.drop_factor": 0.1,
    }
    found = {name: value for name, value, _ in describe(recipe("detr_r50"))}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("overrides", [{}, SOME_OF_EACH_KIND], ids=["as it is", "overridden"])
def test_toml_is_read_back_to_the_same_settings(
    name: str, overrides: dict[str, object], tmp_path: Path
) -> None:
    if "dc5" in name and overrides:
        overrides = overrides | {"model.backbone.dilation": True}
    its_own = {setting for setting, _, _ in describe(recipe(name))}
    experiment = recipe(name, {key: value for key, value in overrides.items() if key in its_own})
    path = tmp_path / "experiment.toml"
    path.write_text(to_toml(experiment), "utf-8")
    assert recipe(path) == experiment
    assert parse(tomllib.loads(to_toml(experiment)), "here") == experiment


def test_toml_holds_every_setting_that_has_a_value() -> None:
    experiment = recipe("detr_r50", SOME_OF_EACH_KIND)
    told = leaves(tomllib.loads(to_toml(experiment)))
    unset = {"train.max_steps", "train.patience"}
    assert set(told) == {name for name, _, _ in describe(experiment)} - unset


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    before = leaves(recipe("detr_r50").model_dump())
    after = leaves(recipe("detr_r50", {"optim.lr": 2e-4, "model.decoder.queries": 7}).model_dump())
    assert {name: value for name, value in after.items() if before[name] != value} == {
        "optim.lr": 2e-4,
        "model.decoder.queries": 7,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("optim.lr=2e-4", 2e-4),
        ("optim.lr = 1", 1),
        ("data.short_sides=[64, 96]", [64, 96]),
        ("train.precision=bf16", "bf16"),
        ('train.precision="bf16"', "bf16"),
        ("train.budget=5m", "5m"),
        ("model.transformer.pre_norm=true", True),
        ("model.backbone.weights=C:\\weights=final.pth", "C:\\weights=final.pth"),
        ("data.train_split=", ""),
    ],
)
def test_an_override_is_a_toml_value_or_plain_text(text: str, value: object) -> None:
    ((key, found),) = parse_overrides([text]).items()
    assert key == text.partition("=")[0].strip()
    assert found == value
    assert type(found) is type(value)


def test_the_last_of_two_overrides_counts() -> None:
    assert parse_overrides(["optim.lr=1", "optim.lr=2"]) == {"optim.lr": 2}


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(DetrkitError, match=r"'optim\.lr' is not a setting.*name=value"):
        parse_overrides(["optim.lr"])


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("optim.learning_rate", None),
        ("optim.lrr", "optim.lr"),
        ("train.lr", "optim.lr"),
        ("model.decoder.query", "model.decoder.queries"),
        ("queries", "model.decoder.queries"),
    ],
)
def test_an_unknown_setting_is_refused_with_a_guess(key: str, guess: str | None) -> None:
    text = refusal({key: 1})
    assert f"'{key}'" in text
    if guess is not None:
        assert text.endswith(f"did you mean '{guess}'?")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.lr", 0),
        ("optim.lr", float("nan")),
        ("optim.weight_decay", -1e-4),
        ("optim.clip_norm", float("inf")),
        ("model.transformer.dropout", 1.0),
        ("model.encoder.layers", -1),
        ("model.decoder.layers", 0),
        ("model.decoder.kind", "convolutional"),
        ("model.backbone.name", "resnet152"),
        ("model.backbone.frozen_stages", 6),
        ("scoring.kind", "sparsemax"),
        ("scoring.no_object", 0),
        ("matching.l1", -1),
        ("data.batch_size", 0),
        ("data.batch_size", "many"),
        ("data.flip", 1.5),
        ("data.short_sides", []),
        ("data.short_sides", [0]),
        ("data.crop_sides", [1, 2, 3]),
        ("schedule.drop_factor", 0),
        ("schedule.warmup", 2),
        ("train.ema", 1),
        ("train.precision", "int8"),
        ("train.budget", "5 minutes"),
        ("train.max_steps", 0),
        ("train.seed", -1),
        *((f"train.{name}", 10**9 + 1) for name in ("max_steps", "epochs", "accumulate", "patience")),
        *((f"train.{name}", 2**63) for name in ("checkpoint_every", "update_ratio_every")),
        *((f"data.{name}", 2**200) for name in ("batch_size", "workers", "max_skipped_images")),
        ("train.max_skipped_steps", 2**64),
    ],
)
def test_a_value_out_of_range_is_named_with_its_setting(key: str, value: object) -> None:
    text = refusal({key: value})
    assert key in text
    assert shown(value[0] if value == [0] else value) in text
    assert "recipe detr_r50" in text


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"model.backbone.name": "resnet18", "model.backbone.dilation": True}, "resnet18 cannot be dilated"),
        ({"model.backbone.name": "resnet34", "model.backbone.dilation": True}, "resnet34 cannot be dilated"),
        ({"model.backbone.norm": "group"}, "pretrained weights .imagenet. carry BatchNorm"),
        ({"model.transformer.width": 36}, "width is 36, .*heads .8."),
        ({"model.transformer.width": 30, "model.transformer.heads": 3}, "width is 30, .*divisible by 4"),
        ({"data.crop_sides": [600, 384]}, "crop_sides is .600, 384."),
        ({"data.max_size": 700}, "max_size is 700"),
        ({"data.eval_short_side": 1400}, "max_size is 1333"),
        ({"schedule.warmup": 0.9}, "warmup is 0.9, after the drop"),
        ({"train.max_steps": 10, "train.budget": "5m"}, "max_steps .10. and budget .5m."),
        ({"matching.classification": 0, "matching.l1": 0, "matching.giou": 0}, "all matching weights are 0"),
        ({"loss.classification": 0, "loss.l1": 0, "loss.giou": 0}, "all loss weights are 0"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(overrides: dict, reason: str) -> None:
    text = refusal(overrides)
    assert re.search(reason, text), text


def test_an_unknown_recipe_is_refused_with_a_guess() -> None:
    with pytest.raises(DetrkitError, match=r"'detr_r5'.*did you mean 'detr_r50.*The recipes are .*detr_r101"):
        recipe("detr_r5")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[optim\nlr = 1", "is not TOML"),
        ("[optim]\nlrr = 1", "did you mean 'optim.lr'"),
        ("[optim]\nlr = 'fast'", "optim.lr = 'fast'"),
        ("optim = 3", "optim"),
        ("[[optim]]\nlr = 1", "optim"),
        ("[nonsense]", "nonsense"),
    ],
)
def test_a_faulty_file_is_named(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(DetrkitError) as caught:
        recipe(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_an_override_into_a_file_that_has_no_table_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("optim = 3", "utf-8")
    with pytest.raises(DetrkitError, match="'optim' must be a table"):
        recipe(path, {"optim.lr": 1})


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not text"])
def test_an_unreadable_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DetrkitError, match=rf"{path} cannot be read"):
        recipe(path)


@pytest.mark.parametrize("overrides", [{}, SOME_OF_EACH_KIND], ids=["as it is", "overridden"])
def test_every_setting_is_described_in_order(overrides: dict[str, object]) -> None:
    experiment = recipe("detr_r50", overrides)
    described = list(describe(experiment))
    assert {name: value for name, value, _ in described} == leaves(experiment.model_dump())
    assert [name for name, _, _ in described] == list(leaves(experiment.model_dump()))
    for name, _, meaning in described:
        assert len(meaning) > 5, name
        assert meaning == " ".join(meaning.split()), name


@pytest.mark.parametrize(
    "section", ["data", "model", "scoring", "matching", "loss", "optim", "schedule", "train"]
)
def test_settings_are_frozen(section: str) -> None:
    experiment = Experiment()
    part = getattr(experiment, section)
    name = next(iter(type(part).model_fields))
    for owner, attribute in ((experiment, section), (part, name)):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(owner, attribute, getattr(owner, attribute))
