"""Settings whose `kind` decides which others there are: decoders and scorings."""

import math
from typing import Any

import pytest
import torch

from detrkit.detectors.detector import num_parameters
from detrkit.errors import DetrkitError
from detrkit.models.detr import build_detr
from detrkit.scoring import build_scoring
from detrkit.settings.experiment import Experiment, parse, parse_overrides, recipe
from detrkit.settings.model import AnchorDecoderSettings, ConditionalDecoderSettings, PlainDecoderSettings
from detrkit.settings.objective import FocalSettings, SoftmaxSettings
from detrkit.settings.recipes import recipe_names, recipe_summary
from detrkit.settings.section import describe

DECODERS = {
    "plain": PlainDecoderSettings,
    "conditional": ConditionalDecoderSettings,
    "anchor": AnchorDecoderSettings,
}
SCORINGS = {"softmax": SoftmaxSettings, "focal": FocalSettings}


def refusal(tree: dict[str, Any]) -> str:
    """The one sentence with which a tree of settings is refused."""
    with pytest.raises(DetrkitError) as caught:
        parse(tree, "mine.toml")
    text = str(caught.value)
    assert text.startswith("mine.toml: ")
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text


def test_settings_that_name_no_kind_mean_detrs() -> None:
    given = parse({"model": {"decoder": {"queries": 7}}, "scoring": {"no_object": 0.3}}, "mine.toml")
    assert given.model.decoder == PlainDecoderSettings(queries=7)
    assert given.scoring == SoftmaxSettings(no_object=0.3)
    assert Experiment().model.decoder == PlainDecoderSettings()
    assert Experiment().scoring == SoftmaxSettings()


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoders_kind_chooses_its_settings(kind: str) -> None:
    found = parse({"model": {"decoder": {"kind": kind, "layers": 2}}}, "mine.toml").model.decoder
    assert found == DECODERS[kind](layers=2)
    assert found.kind == kind


@pytest.mark.parametrize("kind", SCORINGS)
def test_a_scorings_kind_chooses_its_settings(kind: str) -> None:
    found = parse({"scoring": {"kind": kind}}, "mine.toml").scoring
    assert found == SCORINGS[kind]()
    assert found.kind == kind


def test_without_being_told_an_anchor_decoder_has_neither_groups_nor_denoising() -> None:
    decoder = AnchorDecoderSettings()
    assert decoder.groups == 1
    assert decoder.denoising.groups == 0
    assert not decoder.denoising.negatives


def test_focal_defaults_are_those_of_retinanet() -> None:
    # Lin et al. 2017: gamma 2 and alpha 0.25 (section 5.1), prior 0.01 (section 4.1).
    assert (FocalSettings().alpha, FocalSettings().gamma, FocalSettings().prior) == (0.25, 2.0, 0.01)


@pytest.mark.parametrize("value", ["deformable", "Plain", "", 3, True, ["plain"]], ids=str)
def test_an_unknown_kind_is_refused_with_the_kinds_there_are(value: object) -> None:
    text = refusal({"model": {"decoder": {"kind": value}}})
    assert "model.decoder.kind = " in text
    assert str(value) in text
    for kind in DECODERS:
        assert f"'{kind}'" in text
    assert "'softmax', 'focal'" in refusal({"scoring": {"kind": value}})


@pytest.mark.parametrize(
    ("tree", "name", "whose", "chosen"),
    [
        ({"model": {"decoder": {"groups": 2}}}, "model.decoder.groups = 2", "anchor", "plain"),
        (
            {"model": {"decoder": {"kind": "conditional", "groups": 2}}},
            "model.decoder.groups = 2",
            "anchor",
            "conditional",
        ),
        (
            {"model": {"decoder": {"kind": "plain", "denoising": {"groups": 5}}}},
            "model.decoder.denoising",
            "anchor",
            "plain",
        ),
        ({"scoring": {"gamma": 3.0}}, "scoring.gamma = 3.0", "focal", "softmax"),
        ({"scoring": {"kind": "focal", "no_object": 0.1}}, "scoring.no_object = 0.1", "softmax", "focal"),
    ],
    ids=str,
)
def test_a_setting_of_another_kind_is_refused_with_whose_it_is(
    tree: dict[str, Any], name: str, whose: str, chosen: str
) -> None:
    text = refusal(tree)
    assert f"{name}: only kind '{whose}' has this setting, but the kind is '{chosen}'" in text


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"scoring": {"kind": "focal", "sharpness": 1}}, "scoring.sharpness"),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"noise": 1}}}},
            "model.decoder.denoising.noise",
        ),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"noise": {}}}}},
            "model.decoder.denoising.noise",
        ),
        ({"model": {"neck": {}}}, "model.neck"),
        ({"neck": {}}, "neck"),
    ],
    ids=str,
)
def test_a_name_that_no_kind_has_is_no_setting(tree: dict[str, Any], name: str) -> None:
    text = refusal(tree)
    assert name in text
    assert "no such setting" in text or "there is no setting" in text
    assert "kind" not in text.split(name, 1)[1].split("did you mean")[0]


@pytest.mark.parametrize(
    ("tree", "name", "expected"),
    [
        ({"scoring": {"kind": "focal", "alpha": 1}}, "scoring.alpha = 1", "less than 1"),
        ({"scoring": {"kind": "focal", "prior": 0}}, "scoring.prior = 0", "greater than 0"),
        ({"scoring": {"kind": "focal", "gamma": -1}}, "scoring.gamma = -1", "greater than or equal to 0"),
        ({"scoring": {"kind": "focal", "detections": 0}}, "scoring.detections = 0", "greater than 0"),
        (
            {"model": {"decoder": {"kind": "anchor", "groups": 0}}},
            "model.decoder.groups = 0",
            "greater than or equal to 1",
        ),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"groups": -1}}}},
            "model.decoder.denoising.groups = -1",
            "greater than or equal to 0",
        ),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"label_noise": 1.5}}}},
            "model.decoder.denoising.label_noise = 1.5",
            "less than or equal to 1",
        ),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"box_noise": -0.1}}}},
            "model.decoder.denoising.box_noise = -0.1",
            "greater than or equal to 0",
        ),
        (
            {"model": {"decoder": {"kind": "anchor", "denoising": {"negatives": "maybe"}}}},
            "model.decoder.denoising.negatives = 'maybe'",
            "boolean",
        ),
        (
            {"model": {"decoder": {"kind": "conditional", "queries": 0}}},
            "model.decoder.queries = 0",
            "greater than or equal to 1",
        ),
        (
            {"model": {"transformer": {"activation": "gelu"}}},
            "model.transformer.activation = 'gelu'",
            "'prelu'",
        ),
        ({"model": {"encoder": {"temperature": 1}}}, "model.encoder.temperature = 1", "greater than 1"),
        ({"model": {"backbone": {"levels": []}}}, "model.backbone.levels = []", "at least 1"),
        ({"model": {"backbone": {"levels": ["layer1"]}}}, "model.backbone.levels.0 = 'layer1'", "'layer2'"),
        ({"model": {"backbone": {"levels": ["layer4", "layer3"]}}}, "['layer4', 'layer3']", "fine to coarse"),
        ({"model": {"backbone": {"levels": ["layer3", "layer3"]}}}, "['layer3', 'layer3']", "each once"),
        ({"model": {"backbone": {"levels": ["layer3"], "dilation": True}}}, "['layer3']", "leave out layer4"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_its_place_and_what_was_expected(
    tree: dict[str, Any], name: str, expected: str
) -> None:
    text = refusal(tree)
    assert name in text
    assert expected in text


@pytest.mark.parametrize("kind", DECODERS)
def test_another_decoder_is_one_override_away(kind: str) -> None:
    before = recipe("conditional_r50")
    after = recipe("conditional_r50", parse_overrides([f"model.decoder.kind={kind}"]))
    assert after.model.decoder == DECODERS[kind](layers=6, queries=300)
    assert after == before.model_copy(
        update={"model": before.model.model_copy(update={"decoder": after.model.decoder})}
    )


def test_an_override_of_the_kind_does_not_drop_a_recipes_denoising_in_silence() -> None:
    with pytest.raises(
        DetrkitError, match=r"recipe dab_dn_r50: model\.decoder\.denoising: only kind 'anchor'"
    ):
        recipe("dab_dn_r50", parse_overrides(["model.decoder.kind=plain"]))


def test_an_override_reaches_into_the_settings_of_its_kind() -> None:
    chosen = ["model.decoder.kind=anchor", "model.decoder.denoising.groups=3", "model.decoder.groups=2"]
    decoder = recipe("detr_r50", parse_overrides(chosen)).model.decoder
    assert isinstance(decoder, AnchorDecoderSettings)
    assert (decoder.groups, decoder.denoising.groups, decoder.queries) == (2, 3, 100)


@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe(name).model.kind == "detr"])
def test_every_recipe_of_a_detr_builds_and_its_parts_have_as_many_parameters_as_the_whole(name: str) -> None:
    experiment = recipe(name)
    with torch.device("meta"):
        network = build_detr(experiment.model, build_scoring(experiment.scoring), num_classes=91)
    trainable, everything = num_parameters(network)
    assert 0 < trainable <= everything < 100e6
    assert everything == sum(num_parameters(part)[1] for part in network.children())
    assert len(network.decoder.layers) == experiment.model.decoder.layers


@pytest.mark.parametrize(
    ("name", "millions"),
    # "Params" in the READMEs of Conditional DETR and DAB-DETR, in millions.
    [("conditional_r50", 44), ("conditional_r101", 63), ("dab_dn_r50", 44), ("dab_dn_r101", 63)],
)
def test_parameters_are_as_many_as_published(name: str, millions: int) -> None:
    experiment = recipe(name)
    with torch.device("meta"):
        network = build_detr(experiment.model, build_scoring(experiment.scoring), num_classes=91)
    assert num_parameters(network)[1] / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize("name", recipe_names())
def test_a_published_figure_has_its_source_and_its_epochs(name: str) -> None:
    published = recipe(name).published
    if published.ap is None:
        assert published == type(published)()
        return
    assert math.isfinite(published.ap)
    assert published.source
    assert published.epochs == recipe(name).train.epochs
    assert f"{published.ap} AP" in recipe_summary(name)


def test_the_meaning_of_every_kinds_settings_is_told() -> None:
    for tree in ({"decoder": {"kind": kind}} for kind in DECODERS):
        for name, _, meaning in describe(parse({"model": tree, "scoring": {"kind": "focal"}}, "mine.toml")):
            assert len(meaning) > 5, name
