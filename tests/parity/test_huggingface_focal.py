"""transformers' Conditional DETR and DAB-DETR with random weights: outputs, losses and files, and ours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from detrkit.catalog import Category
from detrkit.cli.main import app
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import load, read
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.settings.model import ConditionalDecoderSettings
from detrkit.structures import Images, Objects
from detrkit.weights import huggingface, store
from detrkit.weights.huggingface_conditional import CONDITIONAL_DETR
from detrkit.weights.huggingface_dab import DAB_DETR
from detrkit.weights.huggingface_family import timm_layout
from detrkit.weights.store import Stored

transformers = pytest.importorskip("transformers")

SMALL = {
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "num_queries": 7,
    "id2label": {0: "cat", 1: "N/A", 2: "dog", 3: "emu", 4: "fox"},
}
RESNET_18 = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
CASES: dict[str, dict[str, Any]] = {
    "conditional": {},
    "conditional learned": {"position_embedding_type": "learned"},
    "conditional timm": {"backbone": "resnet18"},
    "dab": {},
    "dab relu": {"activation_function": "relu", "temperature_height": 10, "temperature_width": 10},
    "dab timm": {"backbone": "resnet18"},
}
KINDS = ("conditional", "dab")
NOT_TOLD: Any = {"backbone": {"frozen_stages", "weights"}}
"""Settings of the training, which no file of transformers tells."""


class Output(NamedTuple):
    logits: Tensor
    boxes: Tensor


def build_oracle(name: str, **settings: Any) -> Any:
    """A model of transformers with random weights, those of its norms included."""
    settings = SMALL | CASES[name] | settings
    if "backbone" in settings:
        pytest.importorskip("timm")
        backbone = {"use_timm_backbone": True, "use_pretrained_backbone": False}
    else:
        config = transformers.ResNetConfig(out_features=["stage4"], **RESNET_18)
        backbone = {"use_timm_backbone": False, "backbone_config": config}
    transformers.set_seed(0)
    if name.startswith("conditional"):
        config = transformers.ConditionalDetrConfig(d_model=64, **backbone, **settings)
        model = transformers.ConditionalDetrForObjectDetection(config).eval()
    else:
        config = transformers.DabDetrConfig(hidden_size=64, **backbone, **settings)
        model = transformers.DabDetrForObjectDetection(config).eval()
    randomise(model.state_dict())
    return model


def randomise(tensors: dict[str, Tensor]) -> None:
    """Draw biases, statistics, norms and matrices so that each would be missed if it were another's.

    Boxes stay away from the border, where transformers' ``inverse_sigmoid`` loses digits.
    """
    for name, tensor in tensors.items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 2:
            tensor.normal_(0, (0.3 if len(tensor) == 4 else 1.5) * tensor.shape[1] ** -0.5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """The model of a case, and the folder that transformers saved it in."""
    cases: dict[str, tuple[Any, Path]] = {}

    def save(name: str) -> tuple[Any, Path]:
        if name not in cases:
            model = build_oracle(name)
            folder = tmp_path_factory.mktemp("oracle") / name
            model.save_pretrained(folder)
            cases[name] = (model, folder)
        return cases[name]

    return save


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(2, 96, 128, dtype=torch.bool)
    valid[1, 70:], valid[1, :, 90:] = False, False
    return Images(pixels * valid[:, None], valid)


@pytest.fixture(scope="module")
def objects() -> list[Objects]:
    generator = torch.Generator().manual_seed(2)
    return [
        Objects(
            torch.rand(count, 4, generator=generator) * 0.3 + 0.2,
            torch.randint(5, (count,), generator=generator),
        )
        for count in (3, 2)
    ]


@torch.no_grad()
def every_layer(model: Any, images: Images) -> Output:
    """What transformers' heads make of every decoder layer, which its outputs show of the last alone.

    Pixels lie in memory as our backbone lays them, since convolutions round otherwise in another layout,
    which this network of random weights amplifies.
    """
    images = images._replace(pixels=images.pixels.contiguous(memory_format=torch.channels_last))
    hidden: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda *found: hidden.append(found[-1] if isinstance(found[-1], Tensor) else found[-1][0])
        )
        for layer in model.model.decoder.layers
    ]
    last = model(images.pixels, images.valid.long())
    states = model.model(images.pixels, images.valid.long())
    for hook in hooks:
        hook.remove()
    normed = model.model.decoder.layernorm(torch.stack(hidden[: len(hidden) // 2]))
    offsets = model.bbox_predictor(normed)
    if hasattr(model, "class_labels_classifier"):
        logits = model.class_labels_classifier(normed)
        offsets[..., :2] += states.reference_points.transpose(0, 1).logit()
    else:
        logits = model.class_embed(normed)
        offsets += states.reference_points.logit()
    output = Output(logits, offsets.sigmoid())
    assert torch.allclose(output.logits[-1], last.logits, atol=1e-6)
    assert torch.allclose(output.boxes[-1], last.pred_boxes, atol=1e-6)
    return output


def assert_close(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    for ours, theirs in zip((found.logits, found.boxes), (expected.logits, expected.boxes), strict=True):
        assert ours.shape == theirs.shape
        for layer in range(len(theirs)):
            assert (ours[layer] - theirs[layer]).abs().max() <= tolerance * theirs[layer].std()


def assert_same(found: Stored, expected: Stored) -> None:
    assert found.experiment == expected.experiment
    assert found.categories == expected.categories
    assert_same_tensors(found.tensors, expected.tensors)


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def small_stored(kind: str, **overrides: object) -> Stored:
    """A detector of our own, with settings and categories that no file of transformers could tell."""
    settings = {
        "model.backbone.name": "resnet18",
        "model.backbone.norm": "frozen",
        "model.transformer.width": 32,
        "model.transformer.heads": 4,
        "model.transformer.feedforward": 48,
        "model.transformer.dropout": 0.25,
        "model.encoder.layers": 1,
        "model.decoder.layers": 2,
        "model.decoder.queries": 5,
        "data.short_sides": [320, 480],
        "data.max_size": 640,
        "optim.lr": 3e-4,
    }
    if kind == "dab":
        settings["model.decoder.denoising.groups"] = 0
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    experiment = recipe({"conditional": "conditional_r50", "dab": "dab_dn_r50"}[kind], settings | named)
    categories = (Category(7, "кошка"), Category(1, "dog"), Category(90, "unused", used=False))
    torch.manual_seed(0)
    tensors = build_detector(experiment, categories).state_dict()
    randomise(tensors)
    return Stored(experiment, categories, tensors)


@pytest.mark.parametrize("name", CASES)
def test_outputs_of_every_layer(name: str, saved: Any, images: Images) -> None:
    model, folder = saved(name)
    with torch.no_grad():
        assert_close(load(folder).network(images), every_layer(model, images))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_every_layer(kind: str, tmp_path: Path, images: Images, objects: list[Objects]) -> None:
    """All terms are equal, and so is their sum, in which transformers leaves ``cls_loss_coefficient`` out.

    ``focal_alpha`` is left at 0.25: its loss takes another, but its matching cost does not.
    """
    costs = {"class_cost": 3, "bbox_cost": 4, "giou_cost": 1}
    coefficients = {"cls_loss_coefficient": 3, "bbox_loss_coefficient": 4, "giou_loss_coefficient": 3}
    model = build_oracle(kind, **costs, **coefficients)
    model.save_pretrained(tmp_path)
    output = every_layer(model, images)
    labels = [{"boxes": image.boxes, "class_labels": image.labels} for image in objects]
    model.config.auxiliary_loss = True
    loss, terms, _ = model.loss_function(
        output.logits[-1], labels, "cpu", output.boxes[-1], model.config, output.logits, output.boxes
    )

    detector = load(tmp_path, overrides={"loss.classification": 1})
    with torch.no_grad():
        report = detector(images, objects, count_totals(objects, 7))
    assert float(report.total) == pytest.approx(float(loss), rel=1e-5)
    theirs = {
        "classification": "loss_ce",
        "l1": "loss_bbox",
        "giou": "loss_giou",
        "cardinality_error": "cardinality_error",
    }
    for ours, name in theirs.items():
        expected = [float(terms[f"{name}{layer}"]) for layer in ("_0", "_1", "")]
        assert report.terms[ours].tolist() == pytest.approx(expected, rel=1e-5), ours
    settings = read(tmp_path).experiment
    assert settings.loss.model_dump() == {"classification": 3, "l1": 4, "giou": 3}
    assert settings.matching.model_dump() == {"classification": 3, "l1": 4, "giou": 1}


def test_a_whole_step_of_dab_detr(tmp_path: Path, images: Images, objects: list[Objects]) -> None:
    """transformers' own loss of all layers, and the outputs of those before the last."""
    model = build_oracle("dab", auxiliary_loss=True, cls_loss_coefficient=1)
    model.save_pretrained(tmp_path)
    labels = [{"boxes": image.boxes, "class_labels": image.labels} for image in objects]
    detector = load(tmp_path)
    with torch.no_grad():
        theirs = model(images.pixels, images.valid.long(), labels=labels)
        ours = detector.network(images)
        report = detector(images, objects, count_totals(objects, 7))
    assert float(report.total) == pytest.approx(float(theirs.loss), rel=1e-5)
    logits = [layer["logits"] for layer in theirs.auxiliary_outputs] + [theirs.logits]
    boxes = [layer["pred_boxes"] for layer in theirs.auxiliary_outputs] + [theirs.pred_boxes]
    assert_close(ours, Output(torch.stack(logits), torch.stack(boxes)))


def test_auxiliary_loss_is_another_network_in_conditional_detr(tmp_path: Path, images: Images) -> None:
    model = build_oracle("conditional", auxiliary_loss=True)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        with_it = model(images.pixels, images.valid.long()).logits
        model.config.auxiliary_loss = False
        without = model(images.pixels, images.valid.long()).logits
    assert (with_it - without).abs().max() > 0.01 * without.std()
    with pytest.raises(DetrkitError, match=r"auxiliary_loss true.*set it to false"):
        huggingface.read(tmp_path)


def test_settings_of_conditional_detr(saved: Any) -> None:
    stored = huggingface.read(saved("conditional learned")[1])
    model, scoring = stored.experiment.model, stored.experiment.scoring
    assert (model.backbone.name, model.backbone.norm) == ("resnet18", "frozen")
    assert model.decoder == ConditionalDecoderSettings(layers=3, queries=7)
    assert (model.encoder.position, model.encoder.temperature) == ("learned", 10_000)
    assert (model.transformer.width, model.transformer.activation) == (64, "relu")
    assert (scoring.kind, scoring.alpha, scoring.gamma) == ("focal", 0.25, 2)
    assert [category.used for category in stored.categories] == [True, False, True, True, True]


def test_settings_of_dab_detr(tmp_path: Path, saved: Any) -> None:
    folder = shutil.copytree(saved("dab relu")[1], tmp_path / "dab")
    change_config(folder, initializer_bias_prior_prob=0.03, focal_alpha=0.3, auxiliary_loss=True)
    experiment = huggingface.read(folder).experiment
    model, scoring = experiment.model, experiment.scoring
    assert (model.decoder.kind, model.decoder.queries, model.decoder.groups) == ("anchor", 7, 1)
    assert model.decoder.denoising.groups == 0
    assert (model.encoder.temperature, model.encoder.modulate_position) == (10, True)
    assert (model.transformer.width, model.transformer.activation) == (64, "relu")
    assert (scoring.kind, scoring.alpha, scoring.prior) == ("focal", 0.3, 0.03)
    assert huggingface.read(saved("dab")[1]).experiment.model.transformer.activation == "prelu"


@pytest.mark.parametrize("name", ["conditional", "conditional learned", "dab", "dab relu"])
def test_back_to_transformers_gives_its_file(name: str, saved: Any, tmp_path: Path) -> None:
    _, folder = saved(name)
    huggingface.write(tmp_path, huggingface.read(folder))
    assert_same_tensors(load_file(tmp_path / "model.safetensors"), load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("conditional", {}),
        ("conditional", {"model__encoder__position": "learned", "model__encoder__layers": 0}),
        ("conditional", {"model__backbone__name": "resnet50", "model__backbone__dilation": True}),
        ("dab", {}),
        ("dab", {"model__transformer__activation": "relu", "model__encoder__temperature": 10}),
        ("dab", {"model__backbone__name": "resnet50", "model__backbone__dilation": True}),
    ],
    ids=["conditional", "learned", "conditional dilated", "dab", "relu", "dab dilated"],
)
def test_export(kind: str, overrides: dict[str, object], tmp_path: Path, images: Images) -> None:
    if "model__backbone__dilation" in overrides:
        pytest.importorskip("timm")
    stored = small_stored(kind, **overrides)
    huggingface.write(tmp_path, stored)
    assert_same(read(tmp_path), stored)
    assert_same(read(tmp_path / "model.safetensors"), stored)

    automatic = transformers.AutoModelForObjectDetection
    model, report = automatic.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.id2label == {0: "кошка", 1: "dog", 2: "N/A"}
    with torch.no_grad():
        assert_close(load(tmp_path).network(images), every_layer(model.eval(), images))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    assert type(processor).__name__ == "ConditionalDetrImageProcessor"
    assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (480, 640)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_saved_again_by_transformers(kind: str, tmp_path: Path) -> None:
    stored = small_stored(kind)
    huggingface.write(tmp_path / "ours", stored)
    model = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    found = huggingface.read(tmp_path / "theirs")
    assert_same_tensors(found.tensors, stored.tensors)
    assert found.experiment.model.model_dump(exclude=NOT_TOLD) == (
        stored.experiment.model.model_dump(exclude=NOT_TOLD)
    )
    for section in ("scoring", "matching", "loss"):
        assert getattr(found.experiment, section) == getattr(stored.experiment, section)


@pytest.mark.parametrize("save", [{"save_original_format": False}, {"max_shard_size": "20MB"}])
@pytest.mark.parametrize("name", ["conditional learned", "dab"])
def test_other_ways_to_save(name: str, save: dict[str, Any], saved: Any, tmp_path: Path) -> None:
    model, folder = saved(name)
    model.save_pretrained(tmp_path, **save)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("max_shard_size" in save)
    assert_same(huggingface.read(tmp_path), huggingface.read(folder))


@pytest.mark.parametrize("kept", ["the other name", "both"])
def test_the_shared_head_of_dab_detr_has_two_names(kept: str, saved: Any, tmp_path: Path) -> None:
    """Version 5 writes the one, version 4 the other."""
    _, folder = saved("dab")
    tensors = load_file(folder / "model.safetensors")
    heads = {name: tensor for name, tensor in tensors.items() if name.startswith("bbox_predictor.")}
    assert len(heads) == 6
    others = {
        name.replace("bbox_predictor", "model.decoder.bbox_embed"): tensor.clone()
        for name, tensor in heads.items()
    }
    if kept != "both":
        tensors = {name: tensor for name, tensor in tensors.items() if name not in heads}
    shutil.copy(folder / "config.json", tmp_path)
    save_file(tensors | others, tmp_path / "model.safetensors")
    assert_same(huggingface.read(tmp_path), huggingface.read(folder))


def test_two_different_heads_of_boxes_are_refused(saved: Any, tmp_path: Path) -> None:
    _, folder = saved("dab")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.bbox_embed.layers.0.bias"] = tensors["bbox_predictor.layers.0.bias"] + 1
    shutil.copy(folder / "config.json", tmp_path)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DetrkitError, match=r"two versions of 'bbox_predictor.*tie_word_embeddings true"):
        huggingface.read(tmp_path)


def test_the_names_of_timm_are_the_published_ones() -> None:
    published = (
        (
            CONDITIONAL_DETR,
            {
                "backbone.stem.conv1.weight": "model.backbone.conv_encoder.model.conv1.weight",
                "decoder.layers.3.self_attention.key_place.bias": "model.decoder.layers.3.sa_kpos_proj.bias",
                "decoder.layers.0.cross_attention.key.bias": "model.decoder.layers.0.ca_kcontent_proj.bias",
                "decoder.modulate.2.weight": "model.decoder.query_scale.layers.1.weight",
            },
        ),
        (
            DAB_DETR,
            {
                "backbone.stem.conv1.weight": "model.backbone.conv_encoder.model._backbone.conv1.weight",
                "encoder.layers.5.feedforward.1.weight": "model.encoder.layers.5.activation_fn.weight",
                "decoder.layers.5.feedforward.1.weight": "model.decoder.layers.5.mlp.activation_fn.weight",
                "decoder.anchors": "model.query_refpoint_embeddings.weight",
            },
        ),
    )
    for family, names in published:
        assert {name: timm_layout(family)(name).name for name in names} == names


def test_what_only_training_uses_is_left_out_and_told(tmp_path: Path, images: Images, caplog: Any) -> None:
    stored = small_stored("dab", model__decoder__groups=3, model__decoder__denoising__groups=2)
    only_training = {"network.decoder.further_anchors", "network.decoder.denoising.labels.weight"}
    huggingface.write(tmp_path, stored)
    for name in (*only_training, "model.decoder.groups 3", "model.decoder.denoising.groups 2"):
        assert name in caplog.text
    found = huggingface.read(tmp_path)
    kept = {name: tensor for name, tensor in stored.tensors.items() if name not in only_training}
    assert len(kept) == len(stored.tensors) - 2
    assert_same_tensors(found.tensors, kept)
    assert (found.experiment.model.decoder.groups, found.experiment.model.decoder.denoising.groups) == (1, 0)
    whole = build_detector(stored.experiment, stored.categories).eval()
    whole.load_state_dict(stored.tensors)
    model = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_close(whole.network(images), every_layer(model.eval(), images))


@pytest.mark.parametrize("kind", KINDS)
def test_training_weights_that_transformers_cannot_hold(kind: str, tmp_path: Path, caplog: Any) -> None:
    stored = small_stored(kind, loss__l1=2.5, scoring__gamma=1.5, scoring__alpha=0.5)
    huggingface.write(tmp_path, stored)
    assert "bbox_loss_coefficient 2.5, scoring.gamma 1.5" in caplog.text
    assert_same(huggingface.read(tmp_path), stored)
    assert transformers.AutoConfig.from_pretrained(tmp_path).focal_alpha == 0.5


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        ("conditional", {"scoring__kind": "softmax"}, "scoring.kind focal only, not softmax"),
        ("conditional", {"model__transformer__pre_norm": True}, "pre_norm False only, not True"),
        ("conditional", {"model__transformer__activation": "prelu"}, "activation relu only, not prelu"),
        ("conditional", {"model__encoder__modulate_position": True}, "modulate_position False only"),
        ("conditional", {"model__encoder__temperature": 20}, "temperature 10000 only, not 20"),
        ("conditional", {"model__decoder__temperature": 20}, "decoder.temperature 10000 only, not 20"),
        ("dab", {"model__decoder__temperature": 20}, "decoder.temperature 10000 only, not 20"),
        ("dab", {"model__backbone__levels": ["layer3"]}, r"levels \['layer4'\] only, not \['layer3'\]"),
        ("dab", {"model__backbone__norm": "batch"}, "norm frozen only, not batch"),
        ("dab", {"model__encoder__modulate_position": False}, "modulate_position True only, not False"),
        ("dab", {"model__encoder__position": "learned"}, "position sine only, not learned"),
        ("dab", {"model__encoder__temperature": 12.5}, "a whole number as .*temperature only, not 12.5"),
        ("dab", {"scoring__kind": "softmax"}, "scoring.kind focal only, not softmax"),
        ("dab", {"model__transformer__pre_norm": True}, "pre_norm False only, not True"),
    ],
)
def test_what_transformers_has_no_network_for(
    kind: str, overrides: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DetrkitError, match=f"{message}.*; a .safetensors file") as caught:
        huggingface.write(tmp_path / "new", small_stored(kind, **overrides))
    assert str(tmp_path / "new") in str(caught.value)
    assert not (tmp_path / "new").exists()


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("conditional", {"id2label": {"0": "cat"}}, r"'class_labels_classifier.weight' has shape \(5, 64\)"),
        ("conditional", {"decoder_layers": 4}, r"lacks the tensor 'model.decoder.layers.3"),
        ("conditional", {"decoder_layers": 1}, "no use for, such as 'model.decoder.layers.1"),
        ("dab", {"activation_function": "relu"}, "no use for, such as 'model.decoder.*activation_fn.weight'"),
        ("dab", {"num_queries": 8}, r"'model.query_refpoint_embeddings.weight' has shape \(7, 4\)"),
    ],
)
def test_config_that_its_tensors_contradict(
    kind: str, changes: dict[str, object], message: str, saved: Any, tmp_path: Path
) -> None:
    _, folder = saved(kind)
    shutil.copy(folder / "config.json", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    change_config(tmp_path, **changes)
    with pytest.raises(DetrkitError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands(kind: str, tmp_path: Path) -> None:
    stored = small_stored(kind)
    store.write(tmp_path / "ours.safetensors", stored.tensors, stored.experiment, stored.categories)
    for source, destination in (("ours.safetensors", "theirs"), ("theirs", "again.safetensors")):
        command = ["weights", "convert", str(tmp_path / source), str(tmp_path / destination)]
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output
    assert_same(read(tmp_path / "again.safetensors"), stored)
    ran = CliRunner().invoke(app, ["weights", "inspect", str(tmp_path / "theirs")])
    assert ran.exit_code == 0, ran.output
    decoder = {"conditional": "conditional", "dab": "anchor"}[kind]
    assert f"{decoder} decoder with 5 queries on resnet18" in ran.output
    assert "2 categories: кошка, dog\n1 more labels that no object ever had" in ran.output
