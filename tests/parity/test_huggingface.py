"""transformers' DETR, built with random weights: its outputs, losses and files, and ours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from detrkit.catalog import Category
from detrkit.data.collate import normalise
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.inference.load import load, read
from detrkit.objective.criterion import count_totals
from detrkit.settings.experiment import recipe
from detrkit.structures import Images, ImageSize, Objects
from detrkit.weights import huggingface
from detrkit.weights.coco import COCO_91
from detrkit.weights.huggingface_detr import DETR
from detrkit.weights.huggingface_family import timm_layout
from detrkit.weights.store import Stored

transformers = pytest.importorskip("transformers")

SMALL = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "num_queries": 7,
    "id2label": {0: "cat", 1: "N/A", 2: "dog", 3: "emu", 4: "fox"},
}
BASIC = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
CASES = {
    "native": {"resnet": {}},
    "native learned": {"resnet": BASIC, "position_embedding_type": "learned"},
    "timm": {"backbone": "resnet50"},
    "timm dilated": {"backbone": "resnet50", "dilation": True},
}


class Output(NamedTuple):
    logits: Tensor
    boxes: Tensor


def build_oracle(name: str, **settings: Any) -> Any:
    """A model of transformers with random weights, those of its norms included."""
    settings = SMALL | CASES[name] | settings
    resnet = settings.pop("resnet", None)
    if resnet is None:
        pytest.importorskip("timm")
        backbone = {"use_timm_backbone": True, "use_pretrained_backbone": False}
    else:
        config = transformers.ResNetConfig(out_features=["stage4"], **resnet)
        backbone = {"use_timm_backbone": False, "backbone_config": config}
    transformers.set_seed(0)
    model = transformers.DetrForObjectDetection(transformers.DetrConfig(**backbone, **settings)).eval()
    randomise(model.state_dict())
    return model


def randomise(tensors: dict[str, Tensor]) -> None:
    """Draw biases, statistics, norms and matrices so that each would be missed if it were another's."""
    for name, tensor in tensors.items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 2:
            tensor.normal_(0, 2 * tensor.shape[1] ** -0.5)


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


@torch.no_grad()
def every_layer(model: Any, images: Images) -> Output:
    """What transformers' heads make of every decoder layer, which its outputs show of the last alone."""
    hidden: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda *found: hidden.append(found[-1]))
        for layer in model.model.decoder.layers
    ]
    last = model(images.pixels, images.valid.long())
    for hook in hooks:
        hook.remove()
    normed = model.model.decoder.layernorm(torch.stack(hidden))
    output = Output(model.class_labels_classifier(normed), model.bbox_predictor(normed).sigmoid())
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


def small_stored(**overrides: object) -> Stored:
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
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    experiment = recipe("detr_r50", settings | named)
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


def test_losses_of_every_layer(tmp_path: Path, images: Images) -> None:
    costs = {"class_cost": 2, "bbox_cost": 3, "giou_cost": 1, "eos_coefficient": 0.3}
    coefficients = {"bbox_loss_coefficient": 4, "giou_loss_coefficient": 3}
    model = build_oracle("native learned", **costs, **coefficients)
    model.save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(2)
    objects = [
        Objects(
            torch.rand(count, 4, generator=generator) * 0.3 + 0.2,
            torch.randint(5, (count,), generator=generator),
        )
        for count in (3, 2)
    ]

    output = every_layer(model, images)
    labels = [{"boxes": image.boxes, "class_labels": image.labels} for image in objects]
    model.config.auxiliary_loss = True
    loss, terms, _ = model.loss_function(
        output.logits[-1], labels, "cpu", output.boxes[-1], model.config, output.logits, output.boxes
    )

    detector = load(tmp_path)
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
        expected = [float(terms[f"{name}_0"]), float(terms[name])]
        assert report.terms[ours].tolist() == pytest.approx(expected, rel=1e-5), ours


def test_auxiliary_loss_is_another_network_there(tmp_path: Path, images: Images) -> None:
    model = build_oracle("native learned", auxiliary_loss=True)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        with_it = model(images.pixels, images.valid.long()).logits
        model.config.auxiliary_loss = False
        without = model(images.pixels, images.valid.long()).logits
    assert (with_it - without).abs().max() > 0.01 * without.std()
    with pytest.raises(DetrkitError, match=r"auxiliary_loss true.*set it to false"):
        huggingface.read(tmp_path)


def test_settings_and_categories_of_a_config(saved: Any) -> None:
    stored = huggingface.read(saved("timm dilated")[1])
    model = stored.experiment.model
    assert (model.backbone.name, model.backbone.norm, model.backbone.dilation) == ("resnet50", "frozen", True)
    assert model.transformer.model_dump() == {
        "width": 64,
        "heads": 4,
        "feedforward": 96,
        "dropout": 0.1,
        "pre_norm": False,
        "activation": "relu",
    }
    assert (model.encoder.layers, model.decoder.layers, model.decoder.queries) == (2, 2, 7)
    assert stored.categories == (
        Category(0, "cat"),
        Category(1, "unused 1", used=False),
        Category(2, "dog"),
        Category(3, "emu"),
        Category(4, "fox"),
    )


@pytest.mark.parametrize("name", ["native", "native learned", "timm dilated"])
def test_back_to_transformers_gives_its_file(name: str, saved: Any, tmp_path: Path) -> None:
    _, folder = saved(name)
    huggingface.write(tmp_path, huggingface.read(folder))
    assert_same_tensors(load_file(tmp_path / "model.safetensors"), load_file(folder / "model.safetensors"))


def test_the_published_form_is_exported_without_timm(saved: Any, tmp_path: Path, images: Images) -> None:
    model, folder = saved("timm")
    stored = huggingface.read(folder)
    huggingface.write(tmp_path, stored)
    assert_same(huggingface.read(tmp_path), stored)
    native = transformers.DetrForObjectDetection.from_pretrained(tmp_path)
    assert native.config.backbone_config.model_type == "resnet"
    assert_close(every_layer(native, images), every_layer(model, images))


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"model__encoder__position": "learned", "model__encoder__layers": 0},
        {"model__backbone__name": "resnet50", "model__backbone__dilation": True},
    ],
    ids=["native", "learned", "dilated"],
)
def test_export(overrides: dict[str, object], tmp_path: Path, images: Images) -> None:
    if "model__backbone__dilation" in overrides:
        pytest.importorskip("timm")
    stored = small_stored(**overrides)
    huggingface.write(tmp_path, stored)
    assert_same(read(tmp_path), stored)
    assert_same(read(tmp_path / "model.safetensors"), stored)

    model, report = transformers.DetrForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.id2label == {0: "кошка", 1: "dog", 2: "N/A"}
    with torch.no_grad():
        assert_close(load(tmp_path).network(images), every_layer(model.eval(), images))


def test_a_model_saved_again_by_transformers(tmp_path: Path) -> None:
    stored = small_stored()
    huggingface.write(tmp_path / "ours", stored)
    model = transformers.DetrForObjectDetection.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    found = huggingface.read(tmp_path / "theirs")
    assert_same_tensors(found.tensors, stored.tensors)
    assert found.experiment.model.model_dump(exclude={"backbone": {"frozen_stages", "weights"}}) == (
        stored.experiment.model.model_dump(exclude={"backbone": {"frozen_stages", "weights"}})
    )
    assert [category.name for category in found.categories] == ["кошка", "dog", "unused 2"]


def test_images_look_the_same(tmp_path: Path) -> None:
    huggingface.write(tmp_path, small_stored(data__short_sides=[96], data__max_size=160))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    for height, width in [(120, 150), (150, 120), (96, 96), (64, 80)]:
        image = torch.randint(256, (3, height, width), dtype=torch.uint8)
        expected = processor(image, return_tensors="pt")["pixel_values"][0]
        found = normalise(evaluation_transform(ImageSize(96, 160))(image))
        assert (found - expected).abs().max() <= 1e-5


def test_sizes_come_from_the_image_processor(exported: Path) -> None:
    (exported / "preprocessor_config.json").unlink()
    assert load(exported).image_size == ImageSize(800, 1333)
    size = {"shortest_edge": 480, "longest_edge": 600}
    transformers.DetrImageProcessor(size=size).save_pretrained(exported)
    assert load(exported).image_size == ImageSize(480, 600)
    assert load(exported, overrides={"data.eval_short_side": 320}).image_size == ImageSize(320, 600)


@pytest.mark.parametrize("save", [{"save_original_format": False}, {"max_shard_size": "20MB"}])
def test_other_ways_to_save(save: dict[str, Any], saved: Any, tmp_path: Path) -> None:
    model, folder = saved("native learned")
    model.save_pretrained(tmp_path, **save)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("max_shard_size" in save)
    assert_same(huggingface.read(tmp_path), huggingface.read(folder))


def test_names_of_older_files(saved: Any, tmp_path: Path) -> None:
    _, folder = saved("native learned")
    tensors = load_file(folder / "model.safetensors")
    older = {
        name.replace("model.position_embedding", "model.backbone.position_embedding"): tensor
        for name, tensor in tensors.items()
    }
    older["model.backbone.conv_encoder.model.layer1.0.downsample.1.num_batches_tracked"] = torch.tensor(1)
    save_file(older, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert_same(huggingface.read(tmp_path), huggingface.read(folder))


def test_the_names_of_timm_are_the_published_ones() -> None:
    published = {
        "backbone.stem.conv1.weight": "model.backbone.conv_encoder.model.conv1.weight",
        "backbone.stem.bn1.running_var": "model.backbone.conv_encoder.model.bn1.running_var",
        "backbone.layer1.0.conv1.weight": "model.backbone.conv_encoder.model.layer1.0.conv1.weight",
        "backbone.layer4.0.downsample.1.bias": "model.backbone.conv_encoder.model.layer4.0.downsample.1.bias",
        "encoder.project.0.bias": "model.input_projection.bias",
        "encoder.layers.5.attention.output.weight": "model.encoder.layers.5.self_attn.out_proj.weight",
        "decoder.layers.0.cross_attention.query.bias": "model.decoder.layers.0.encoder_attn.q_proj.bias",
        "decoder.layers.0.feedforward.3.weight": "model.decoder.layers.0.fc2.weight",
        "decoder.heads.boxes.4.bias": "bbox_predictor.layers.2.bias",
    }
    assert {name: timm_layout(DETR)(name).name for name in published} == published


def test_half_precision_is_kept(tmp_path: Path) -> None:
    stored = small_stored()
    stored = stored._replace(tensors={name: tensor.half() for name, tensor in stored.tensors.items()})
    huggingface.write(tmp_path, stored)
    assert_same(huggingface.read(tmp_path), stored)
    model = transformers.DetrForObjectDetection.from_pretrained(tmp_path)
    assert model.dtype == torch.float16


def test_training_weights_that_transformers_cannot_hold(tmp_path: Path, caplog: Any) -> None:
    stored = small_stored(loss__l1=2.5, loss__classification=2, matching__giou=3)
    huggingface.write(tmp_path, stored)
    assert "bbox_loss_coefficient 2.5, loss.classification 2.0" in caplog.text
    assert_same(huggingface.read(tmp_path), stored)
    config = transformers.DetrConfig.from_pretrained(tmp_path)
    assert (config.giou_cost, config.bbox_loss_coefficient) == (3, 5)


def test_the_published_categories(tmp_path: Path) -> None:
    experiment = small_stored().experiment
    stored = Stored(experiment, COCO_91, build_detector(experiment, COCO_91).state_dict())
    huggingface.write(tmp_path, stored)
    model = transformers.DetrForObjectDetection.from_pretrained(tmp_path)
    assert (model.config.id2label[0], model.config.id2label[90]) == ("N/A", "toothbrush")
    model.save_pretrained(tmp_path)  # without detrkit's own note
    assert huggingface.read(tmp_path).categories == COCO_91


def test_what_transformers_has_no_network_for(tmp_path: Path) -> None:
    for name, value in (("model__transformer__pre_norm", True), ("model__backbone__norm", "batch")):
        with pytest.raises(DetrkitError, match=name.replace("__", ".")):
            huggingface.write(tmp_path / "new", small_stored(**{name: value}))
    with pytest.raises(DetrkitError, match=r"scoring.kind softmax only, not focal"):
        huggingface.write(tmp_path / "new", small_stored(scoring__kind="focal"))
    assert not (tmp_path / "new").exists()


def test_a_run_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("of a run")
    with pytest.raises(DetrkitError, match="name another one"):
        huggingface.write(tmp_path, small_stored())
    assert (tmp_path / "model.safetensors").read_text() == "of a run"


@pytest.fixture(scope="module")
def unnoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without detrkit's note, as transformers saves it."""
    folder = tmp_path_factory.mktemp("unnoted")
    huggingface.write(folder, small_stored())
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def exported(unnoted: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return shutil.copytree(unnoted, tmp_path / "exported")


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "yolos"}, "type 'yolos'.*'dab-detr' only"),
        ({"architectures": ["DetrForSegmentation"]}, "'DetrForSegmentation', but"),
        ({"activation_function": "gelu"}, r"activation_function .gelu., but detrkit needs .relu.: take"),
        ({"decoder_attention_heads": 2}, "decoder_attention_heads 2.*needs 4"),
        ({"decoder_ffn_dim": 64}, "decoder_ffn_dim 64.*needs 48"),
        ({"num_channels": 1}, "num_channels 1"),
        ({"d_model": "wide"}, "model.transformer.width = 'wide'"),
        ({"d_model": 64}, "expected"),
        ({"id2label": {"0": "cat", "2": "dog", "3": "emu"}}, "3 labels.*none is 1"),
        ({"id2label": {"0": "cat"}}, r"'class_labels_classifier.weight' has shape \(4, 32\)"),
        ({"backbone_config": {"model_type": "swin"}}, "type 'swin'"),
        ({"backbone_config": {"model_type": "resnet", "depths": [1, 1, 1, 1]}}, r"depths \[1, 1, 1, 1\]"),
        ({"decoder_layers": 3}, "lacks the tensor 'model.decoder.layers.2"),
        ({"decoder_layers": 1}, "no use for, such as 'model.decoder.layers.1"),
    ],
)
def test_config_that_detrkit_cannot_read(exported: Path, changes: dict[str, object], message: str) -> None:
    change_config(exported, **changes)
    with pytest.raises(DetrkitError, match=message) as caught:
        read(exported)
    assert str(exported) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "there is no .*config.json"),
        ("config.json", b"{", "cannot be read"),
        ("config.json", b"[]", "no JSON object"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", b"damaged", "not a readable safetensors file"),
        ("preprocessor_config.json", b'{"size": {"height": 640, "width": 640}}', "data.eval_short_side"),
        ("preprocessor_config.json", b'{"image_mean": [0.5, 0.5, 0.5]}', "image_mean"),
    ],
)
def test_damaged_files(exported: Path, name: str, content: bytes | None, message: str) -> None:
    (exported / name).unlink()
    if content is not None:
        (exported / name).write_bytes(content)
    with pytest.raises(DetrkitError, match=message):
        huggingface.read(exported)


def test_a_truncated_file_and_a_missing_tensor(exported: Path) -> None:
    path = exported / "model.safetensors"
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DetrkitError, match="not a readable safetensors file"):
        read(exported)
    del tensors["model.query_position_embeddings.weight"]
    save_file(tensors, path)
    with pytest.raises(DetrkitError, match=r"lacks the tensor 'model.query_position_embeddings.weight'"):
        read(exported)


def test_a_pickle_alone(exported: Path) -> None:
    (exported / "model.safetensors").rename(exported / "pytorch_model.bin")
    with pytest.raises(DetrkitError, match="a pickle: load it with transformers and save it"):
        read(exported)
