"""config.json and preprocessor_config.json in the forms that versions 4 and 5 of transformers write."""

import json
from pathlib import Path
from typing import Any

import pytest

from detrkit.catalog import Category
from detrkit.errors import DetrkitError
from detrkit.settings.data import DataSettings
from detrkit.settings.experiment import Experiment, parse, recipe
from detrkit.weights import huggingface
from detrkit.weights.coco import COCO_91
from detrkit.weights.huggingface_conditional import CONDITIONAL_DETR
from detrkit.weights.huggingface_config import (
    has_timm_backbone,
    to_categories,
    to_data_settings,
)
from detrkit.weights.huggingface_dab import DAB_DETR
from detrkit.weights.huggingface_detr import DETR
from detrkit.weights.huggingface_family import Family, to_config

SOURCE = Path("folder/config.json")
NATIVE = {"model_type": "resnet", "depths": [3, 4, 23, 3], "out_features": ["stage4"]}


def experiment_of(config: dict[str, Any], family: Family = DETR) -> Experiment:
    return parse(family.to_settings(config, SOURCE), str(SOURCE))


@pytest.mark.parametrize(
    ("config", "timm", "name", "dilation"),
    [
        ({}, True, "resnet50", False),
        ({"backbone": "resnet101", "dilation": True, "backbone_config": None}, True, "resnet101", True),
        ({"backbone": "tv_resnet50.tv_in1k", "use_timm_backbone": True}, True, "resnet50", False),
        (
            {"backbone": "resnet50", "backbone_kwargs": {"output_stride": 16, "out_indices": [1, 2, 3, 4]}},
            True,
            "resnet50",
            True,
        ),
        (
            {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18"}},
            True,
            "resnet18",
            False,
        ),
        ({"use_timm_backbone": False}, False, "resnet50", False),
        # transformers' own ResNet takes no notice of dilation, which version 4 writes as null
        ({"backbone_config": NATIVE, "dilation": True}, False, "resnet101", False),
        ({"backbone_config": NATIVE, "dilation": None}, False, "resnet101", False),
    ],
)
def test_backbones(config: dict[str, Any], timm: bool, name: str, dilation: bool) -> None:
    assert has_timm_backbone(config, SOURCE) == timm
    backbone = experiment_of(config).model.backbone
    assert (backbone.name, backbone.dilation, backbone.norm) == (name, dilation, "frozen")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": "resnet50d"}, "'resnet50d'"),
        ({"backbone": "resnet152"}, "'resnet152'"),
        ({"backbone_kwargs": {"output_stride": 8}}, "output_stride 8"),
        ({"backbone_kwargs": {"out_indices": [1, 2, 3]}}, "last stage"),
        ({"backbone_config": NATIVE | {"out_features": ["stage3"]}}, "last stage"),
        ({"backbone_config": NATIVE | {"downsample_in_bottleneck": True}}, "in their usual form"),
    ],
)
def test_other_backbones(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DetrkitError, match=message):
        experiment_of(config)


@pytest.mark.parametrize(
    ("family", "name", "overrides"),
    [
        (DETR, "detr_r50", {}),
        (CONDITIONAL_DETR, "conditional_r50", {}),
        # DN-DETR's recipe, without what only training has and with the defaults of DAB-DETR's config
        (
            DAB_DETR,
            "dab_dn_r50",
            {
                "model.decoder.denoising.groups": 0,
                "model.transformer.dropout": 0.1,
                "loss.classification": 2,
            },
        ),
    ],
)
def test_an_empty_config_is_the_papers(family: Family, name: str, overrides: dict[str, object]) -> None:
    found, published = experiment_of({}, family), recipe(name, overrides)
    assert found.model == published.model
    assert (found.matching, found.loss, found.scoring) == (
        published.matching,
        published.loss,
        published.scoring,
    )


@pytest.mark.parametrize(
    ("family", "name", "overrides"),
    [
        (DETR, "detr_r50", {"scoring.no_object": 0.2}),
        (DETR, "detr_r101_dc5", {"scoring.no_object": 0.2}),
        (CONDITIONAL_DETR, "conditional_r101", {"scoring.alpha": 0.3, "loss.classification": 3}),
        (
            DAB_DETR,
            "dab_dn_r101",
            {"scoring.alpha": 0.3, "scoring.prior": 0.02, "model.decoder.denoising.groups": 0},
        ),
    ],
)
def test_settings_survive(family: Family, name: str, overrides: dict[str, object]) -> None:
    experiment = recipe(name, {"matching.l1": 4, "loss.giou": 3} | overrides)
    config = json.loads(json.dumps(to_config(family, experiment, COCO_91, "float32")))
    found = experiment_of(config, family)
    for section in ("model", "matching", "loss", "scoring"):
        assert getattr(found, section) == getattr(experiment, section)
    assert to_categories(config, SOURCE) == COCO_91


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (CONDITIONAL_DETR, {"activation_function": "gelu"}, 'activation_function "gelu", .* needs "relu"'),
        (CONDITIONAL_DETR, {"activation_function": "prelu"}, 'activation_function "prelu", .* needs "relu"'),
        (CONDITIONAL_DETR, {"num_channels": 1}, "num_channels 1, but detrkit needs 3: take a model"),
        (CONDITIONAL_DETR, {"decoder_attention_heads": 2}, "decoder_attention_heads 2, .* needs 8"),
        (CONDITIONAL_DETR, {"decoder_ffn_dim": 64}, "decoder_ffn_dim 64, .* needs 2048"),
        (CONDITIONAL_DETR, {"auxiliary_loss": True}, "auxiliary_loss true.* set it to false there"),
        (CONDITIONAL_DETR, {"position_embedding_type": "v3"}, "model.encoder.position = 'v3'"),
        (DAB_DETR, {"num_patterns": 3}, "num_patterns 3, but detrkit needs 0: take a model"),
        (DAB_DETR, {"keep_query_pos": True}, "keep_query_pos true, but detrkit needs false: take a model"),
        (DAB_DETR, {"normalize_before": True}, "normalize_before true, but detrkit needs false"),
        (DAB_DETR, {"query_dim": 2}, "query_dim 2, but detrkit needs 4"),
        (DAB_DETR, {"temperature_width": 10}, "temperature_width 10, but detrkit needs 20"),
        (DAB_DETR, {"sine_position_embedding_scale": 1.0}, "sine_position_embedding_scale 1.0, .* 6.28"),
        (DAB_DETR, {"activation_function": "gelu"}, 'activation_function "gelu", .* needs "prelu"'),
        (DAB_DETR, {"decoder_ffn_dim": 64}, "decoder_ffn_dim 64, .* needs 2048"),
        (DAB_DETR, {"hidden_size": "wide"}, "model.transformer.width = 'wide'"),
        (DAB_DETR, {"backbone_config": {"model_type": "swin"}}, "type 'swin', which is no ResNet"),
        (DAB_DETR, {"backbone_config": NATIVE | {"out_features": ["stage3"]}}, "last stage"),
    ],
)
def test_config_that_detrkit_has_no_network_for(
    family: Family, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DetrkitError, match=message) as caught:
        experiment_of(changes, family)
    assert str(SOURCE) in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "deformable_detr"},
            "'deformable_detr'.*'detr', 'conditional_detr' and 'dab-detr' only",
        ),
        (
            {"model_type": "conditional_detr", "architectures": ["ConditionalDetrForSegmentation"]},
            "'ConditionalDetrForSegmentation', but .* ConditionalDetrForObjectDetection only",
        ),
        (
            {"model_type": "dab-detr", "architectures": ["DabDetrModel"]},
            "'DabDetrModel', but .* DabDetrForObjectDetection only",
        ),
    ],
)
def test_other_models(config: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DetrkitError, match=message) as caught:
        huggingface.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_categories() -> None:
    assert to_categories({}, SOURCE) == (Category(0, "LABEL_0"), Category(1, "LABEL_1"))
    # some published files name the ids that COCO drew up and never used
    names = {str(label): name if used else "street sign" for label, name, used in COCO_91}
    assert to_categories({"id2label": names}, SOURCE) == COCO_91
    assert to_categories({"id2label": names | {"1": "human"}}, SOURCE)[1] == Category(1, "human")
    with pytest.raises(DetrkitError, match="no names"):
        to_categories({"id2label": {}}, SOURCE)


@pytest.mark.parametrize(
    ("preprocessor", "short", "longest"),
    [
        ({}, 800, 1333),
        ({"size": 800, "max_size": 1333}, 800, 1333),
        ({"size": {"shortest_edge": 600}}, 600, 1333),
        ({"size": {"shortest_edge": 300, "longest_edge": 400}}, 300, 400),
        ({"size": {"shortest_edge": 1333, "longest_edge": 800}}, 800, 800),
        ({"size": {"max_height": 640, "max_width": 640}}, 640, 640),
    ],
)
def test_sizes(preprocessor: dict[str, Any], short: int, longest: int) -> None:
    data = DataSettings(**to_data_settings(preprocessor, SOURCE, {}))
    assert (data.eval_short_side, data.max_size) == (short, longest)
    assert max(data.short_sides) <= short


def test_a_size_that_loses_the_shape_of_images() -> None:
    preprocessor = {"size": {"height": 640, "width": 640}}
    with pytest.raises(DetrkitError, match=r"--set data\.eval_short_side"):
        to_data_settings(preprocessor, SOURCE, {})
    assert to_data_settings(preprocessor, SOURCE, {"data.eval_short_side": 640}) == {}
