import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.experiment import Experiment, recipe
from detrkit.tuning.space import Choice, Span, read_searches, require_settings, starting_point, written


def named(text: str) -> Span | Choice:
    return read_searches([text])[-1]


def test_rates_and_decay_are_searched_by_decades_unless_something_else_is_said() -> None:
    found = {search.name: search for search in read_searches([])}
    assert list(found) == ["optim.lr", "optim.backbone_lr", "optim.weight_decay"]
    assert found["optim.lr"] == Span("optim.lr", 1e-5, 1e-2, log=True, whole=False)


def test_a_search_replaces_the_default_of_the_same_name() -> None:
    searches = read_searches(["optim.lr=1e-4:1e-3"])
    assert [search.name for search in searches].count("optim.lr") == 1
    assert searches[-1] == Span("optim.lr", 1e-4, 1e-3, log=True, whole=False)


def test_what_is_set_is_not_searched() -> None:
    assert [search.name for search in read_searches([], fixed=["optim.lr", "train.ema"])] == [
        "optim.backbone_lr",
        "optim.weight_decay",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("schedule.drop_at=0.5:1", Span("schedule.drop_at", 0.5, 1.0, log=False, whole=False)),
        ("loss.giou=0.5:8:log", Span("loss.giou", 0.5, 8.0, log=True, whole=False)),
        ("model.decoder.layers=2:6:int", Span("model.decoder.layers", 2.0, 6.0, log=False, whole=True)),
        ("model.decoder.queries=25:400:log:int", Span("model.decoder.queries", 25.0, 400.0, True, True)),
        ("data.batch_size=8,16", Choice("data.batch_size", (8, 16))),
        ("train.precision=fp32,bf16", Choice("train.precision", ("fp32", "bf16"))),
        ("data.short_sides=[480],[480, 800]", Choice("data.short_sides", ([480], [480, 800]))),
        ("model.transformer.pre_norm=true,false", Choice("model.transformer.pre_norm", (True, False))),
    ],
)
def test_a_search_means_what_is_written_and_is_written_as_it_is_meant(
    text: str, meant: Span | Choice
) -> None:
    assert named(text) == meant
    assert named(written(meant)) == meant


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["optim.lr"], "write it as NAME=LOW:HIGH"),
        (["optim.lr=1e-3:1e-5"], "1e-3 is not below 1e-5"),
        (["loss.giou=0:1:log"], "has no 0"),
        (["optim.lr=small:1e-3"], "'small' is not a number"),
        (["optim.lr=1e-5:inf"], "'inf' is not a number"),
        (["optim.lr=1e-5:1e-3:wide"], "write it as NAME=LOW:HIGH"),
        (["model.decoder.layers=1.5:6:int"], "whole numbers"),
        (["data.batch_size=8,8"], "there twice"),
        (["optim.lr=1e-5:1e-3", "optim.lr=1e-5:1e-2"], "given 2 times"),
        (["train.seed=1,2,3"], "--seed"),
        (["train.max_steps=10:100:int"], "--budget"),
    ],
)
def test_a_search_at_fault_is_one_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(DetrkitError) as caught:
        read_searches(texts)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(DetrkitError, match="--search"):
        read_searches([], fixed=["optim.lr", "optim.backbone_lr", "optim.weight_decay"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("optim.learning_rate=1e-5:1e-3", "there is no setting 'optim.learning_rate'"),
        ("schedule.drop_at=0.5:1.5", "schedule.drop_at = 1.5"),
        ("model.backbone.name=resnet50,resnet7", "resnet7"),
        ("model.decoder.layers=2:6", "add :int"),
    ],
)
def test_what_the_recipe_would_refuse_is_refused_before_a_trial(text: str, sentence: str) -> None:
    def build(settings: object) -> Experiment:
        return recipe("detr_r50", settings)  # pyright: ignore[reportArgumentType]

    with pytest.raises(DetrkitError) as caught:
        require_settings([named(text)], build)
    assert sentence in str(caught.value)


def test_the_recipe_s_own_values_are_the_starting_point_where_they_may_be_proposed() -> None:
    searches = read_searches(
        ["optim.lr=1e-3:1e-2", "data.batch_size=2,4", "train.precision=bf16,fp16"], ["optim.backbone_lr"]
    )
    experiment = recipe("detr_r50", {"data.batch_size": 4})
    assert starting_point(searches, experiment) == {"optim.weight_decay": 1e-4, "data.batch_size": 4}
