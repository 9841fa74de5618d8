"""Which detectors a note compares."""

from typing import Any

import pytest

from detrkit.errors import DetrkitError
from detrkit.settings.classical import FasterRcnnSettings, FcosSettings, RetinaNetSettings
from detrkit.settings.experiment import recipe
from detrkit.study.note.family import FAMILIES, family_of, members_of, require_backbones, warmed_up
from detrkit.study.note.request import read_request

R50 = ("resnet50", "resnet101")


def test_few_images_have_the_small_recipes_and_many_the_published_ones() -> None:
    assert family_of([], "note", 9_999) == FAMILIES["shapes"]
    assert family_of([], "note", 10_000) == FAMILIES["detr_r50"]
    assert family_of([], "full", 9_999) == FAMILIES["detr_r50"]


def test_a_base_stands_for_its_family_and_named_recipes_for_themselves() -> None:
    assert family_of(["detr_r50"], "note", 5) == FAMILIES["detr_r50"]
    assert family_of(["dab_dn_r50"], "note", 5) == ("dab_dn_r50",)
    assert family_of(["shapes", "shapes_plain"], "note", 5) == ("shapes", "shapes_plain")
    with pytest.raises(DetrkitError, match="recipe shapes is given 2 times"):
        family_of(["shapes", "shapes"], "note", 5)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_makes_members_that_share_all_but_what_is_theirs(name: str) -> None:
    members = members_of(FAMILIES[name], R50, {"data.batch_size": 3, "optim.weight_decay": 0.5})
    assert list(members)[:4] == ["r50", "r101", "r101_from_r50", "r50_tuned"]
    base = members["r50"].settings
    assert members["r101_from_r50"].settings == members["r101"].settings
    assert members["r101"].settings.model.backbone.name == "resnet101"
    assert base.optim.weight_decay == 0.5
    others = {one for one, member in members.items() if member.role == "decoder"}
    assert others == ({"conditional", "plain"} if name == "shapes" else {"conditional", "anchor_dn"})
    for member in members.values():
        assert member.settings.data == base.data
        assert member.settings.train.precision == base.train.precision
        assert member.settings.train.ema == base.train.ema
        if member.role not in ("larger", "grown"):
            assert member.settings.model.backbone.name == "resnet50"
            assert member.settings.model.backbone.norm == base.model.backbone.norm
            assert member.settings.model.backbone.weights == base.model.backbone.weights


def test_the_larger_member_of_the_published_family_is_the_published_recipe() -> None:
    large = members_of(FAMILIES["detr_r50"], R50, {})["r101"].settings
    published = recipe("detr_r101")
    assert large.model_copy(update={"published": published.published}) == published


def test_classical_detectors_scale_their_rate_with_the_batch_and_their_proposals_with_the_image() -> None:
    members = members_of(("shapes",), R50, {"data.batch_size": 8})
    # shapes has 128 pixels where torchvision has 800, and 8 images in a step where it has 16
    frcnn = members["faster_rcnn"].settings
    assert (frcnn.optim.lr, frcnn.optim.backbone_lr) == (0.01, 0.01)
    assert (frcnn.schedule.warmup, frcnn.schedule.drop_at) == (0.05, 0.85)
    assert members["fcos"].settings.optim.lr == 0.005
    assert isinstance(frcnn.model, FasterRcnnSettings)
    assert (frcnn.model.proposals, frcnn.model.samples) == (300, 64)
    assert members["retinanet"].settings.schedule.warmup == 0.05
    halved = {"data.short_sides": [400], "data.eval_short_side": 566}
    model = members_of(("detr_r50",), R50, halved)["faster_rcnn"].settings.model
    assert isinstance(model, FasterRcnnSettings)
    assert (model.proposals, model.samples) == (501, 256)  # (566 / 800)^2 of 1000 and 512


@pytest.mark.parametrize(
    ("steps", "warmup"), [(500, 0.1), (10_000, 0.1), (50_000, 0.02), (200_000, 0.005), (7_000_000, 0.005)]
)
def test_classical_detectors_warm_up_for_1000_steps_or_a_tenth_of_a_run(steps: int, warmup: float) -> None:
    members = members_of(("detr_r50",), R50, {})
    assert warmed_up(members["fcos"], steps).schedule.warmup == warmup
    assert warmed_up(members["r50"], steps) == members["r50"].settings


@pytest.mark.parametrize("base", ["shapes", "detr_r50"])
def test_classical_detectors_keep_their_anchors_and_leave_out_no_more_than_their_recipes(base: str) -> None:
    for name, member in members_of((base,), R50, {}).items():
        if member.role != "classical":
            continue
        model = member.settings.model
        assert isinstance(model, FasterRcnnSettings | RetinaNetSettings | FcosSettings)
        assert model.score_threshold <= 0.01
        if not isinstance(model, FcosSettings):
            assert model.anchors == (32, 64, 128, 256, 512), name


def test_classical_detectors_of_large_images_have_as_many_proposals_as_published() -> None:
    model = members_of(("detr_r50",), R50, {})["faster_rcnn"].settings.model
    assert isinstance(model, FasterRcnnSettings)
    assert (model.proposals, model.samples) == (1000, 512)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet50", "name a smaller and a larger one of resnet18"),
        ("resnet50,resnet51", "name a smaller and a larger one of resnet18"),
        ("resnet101,resnet50", "resnet101 is not the smaller one"),
        ("resnet50,resnet50", "resnet50 is not the smaller one"),
    ],
)
def test_backbones_that_are_no_pair_are_told(text: str, words: str) -> None:
    with pytest.raises(DetrkitError, match=words):
        require_backbones(text)


def test_backbones_that_do_not_grow_into_each_other_are_told() -> None:
    with pytest.raises(DetrkitError, match="resnet34 cannot grow into resnet50"):
        members_of(("shapes",), ("resnet34", "resnet50"), {})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"budget": "soon"}, "--budget: 'soon' is not a duration"),
        ({"kind": "full", "budget": "2h"}, "--budget 2h is for --plan note"),
        ({"assignments": ["train.max_steps=5"]}, "train.max_steps is decided by the study, through --budget"),
        ({"assignments": ["model.backbone.name=resnet18"]}, "through --backbones"),
        ({"assignments": ["train.seed=1"]}, "through --seed"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_told_in_a_sentence(asked: dict[str, Any], words: str, tmp_path: Any) -> None:
    kind = asked.pop("kind", "note")
    with pytest.raises(DetrkitError, match=words):
        read_request(kind, tmp_path, [], train_images=5, **asked)
