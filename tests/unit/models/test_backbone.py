import math
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from detrkit.models.backbone import Backbone
from detrkit.settings.model import BackboneSettings
from detrkit.structures import Images


def images(*sizes: tuple[int, int]) -> Images:
    """Noise of these (height, width), padded to one batch."""
    generator = torch.Generator().manual_seed(0)
    height, width = (max(side) for side in zip(*sizes, strict=True))
    pixels = torch.zeros(len(sizes), 3, height, width)
    valid = torch.zeros(len(sizes), height, width, dtype=torch.bool)
    for image, mask, (rows, columns) in zip(pixels, valid, sizes, strict=True):
        image[:, :rows, :columns] = torch.randn(3, rows, columns, generator=generator)
        mask[:rows, :columns] = True
    return Images(pixels, valid)


def torchvision_resnet(name: str, dilation: bool) -> nn.Module:
    """A ResNet with random weights and statistics, in evaluation."""
    torch.manual_seed(0)
    build = getattr(torchvision.models, name)
    with torch.device("meta"):
        resnet = build(weights=None, replace_stride_with_dilation=[False, False, dilation])
    for parameter in resnet.to_empty(device="cpu").parameters():
        nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.5, std=parameter[0].numel() ** -0.5)
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return resnet.eval()


@pytest.mark.parametrize(
    ("name", "norm", "dilation"),
    [("resnet18", "frozen", False), ("resnet18", "batch", False), ("resnet50", "frozen", True)],
)
def test_features_are_those_of_torchvisions_resnet(name: str, norm: str, dilation: bool) -> None:
    resnet = torchvision_resnet(name, dilation)
    weights = resnet.state_dict()
    stem = {f"stem.{key}": value for key, value in weights.items() if key.startswith(("conv1", "bn1"))}
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name=name, weights="none", norm=norm, dilation=dilation))
    backbone.to_empty(device="cpu").load_state_dict(weights | stem, strict=False)
    batch = images((32, 64))
    with torch.no_grad():
        expected = nn.Sequential(*list(resnet.children())[:-2])(batch.pixels)
        (found,) = backbone.eval()(batch)
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5 * expected.std().item())
    assert backbone.out_channels == [expected.shape[1]]


@pytest.mark.parametrize(
    ("name", "dilation", "stride"),
    [("resnet18", False, 32), ("resnet34", False, 32), ("resnet50", False, 32), ("resnet101", True, 16)],
)
@pytest.mark.parametrize("size", [(64, 96), (65, 127)])
def test_features_have_the_stride_that_is_promised(
    name: str, dilation: bool, stride: int, size: tuple[int, int]
) -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name=name, weights="none", dilation=dilation))
        batch = Images(torch.zeros(2, 3, *size), torch.ones(2, *size, dtype=torch.bool))
    (found,) = backbone(batch)
    height, width = (math.ceil(side / stride) for side in size)
    assert found.values.shape == (2, backbone.out_channels[0], height, width)
    assert found.valid.shape == (2, height, width)


def test_a_cell_is_valid_where_its_first_pixel_is() -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name="resnet18", weights="none"))
        values = torch.zeros(4, 3, 100, 130)
    batch = images((100, 130), (33, 64), (32, 65), (1, 1))
    (found,) = backbone(Images(values, batch.valid))
    height, width = found.valid.shape[1:]
    assert (height, width) == (4, 5)
    for valid, cells in zip(batch.valid, found.valid, strict=True):
        expected = [
            [bool(valid[row * 100 // height, column * 130 // width]) for column in range(width)]
            for row in range(height)
        ]
        assert cells.tolist() == expected


STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}
CHANNELS = {
    "resnet18": {"layer2": 128, "layer3": 256, "layer4": 512},
    "resnet50": {"layer2": 512, "layer3": 1024, "layer4": 2048},
}
"""He et al. 2016, table 1."""


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("size", [(64, 96), (65, 127)])
@pytest.mark.parametrize(
    "levels",
    [("layer2",), ("layer3",), ("layer3", "layer4"), ("layer2", "layer4"), ("layer2", "layer3", "layer4")],
    ids=" ".join,
)
def test_every_level_has_the_stride_and_the_channels_of_its_stage(
    name: str, size: tuple[int, int], levels: tuple[str, ...]
) -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name=name, weights="none", levels=levels))
        maps = backbone(Images(torch.zeros(2, 3, *size), torch.ones(2, *size, dtype=torch.bool)))
    assert backbone.out_channels == [CHANNELS[name][level] for level in levels]
    for level, found in zip(levels, maps, strict=True):
        height, width = (math.ceil(side / STRIDES[level]) for side in size)
        assert found.values.shape == (2, CHANNELS[name][level], height, width)
        assert found.valid.shape == (2, height, width)


def test_with_dilation_the_last_two_levels_have_one_stride() -> None:
    levels = ("layer3", "layer4")
    settings = BackboneSettings(name="resnet50", weights="none", dilation=True, levels=levels)
    with torch.device("meta"):
        fine, coarse = Backbone(settings)(
            Images(torch.zeros(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool))
        )
    assert fine.values.shape == (1, 1024, 4, 6)
    assert coarse.values.shape == (1, 2048, 4, 6)


def test_the_features_of_every_level_are_those_of_torchvisions_stages() -> None:
    resnet = torchvision_resnet("resnet18", dilation=False)
    weights = resnet.state_dict()
    stem = {f"stem.{key}": value for key, value in weights.items() if key.startswith(("conv1", "bn1"))}
    levels = ("layer2", "layer3")
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name="resnet18", weights="none", norm="frozen", levels=levels))
    backbone.to_empty(device="cpu").load_state_dict(weights | stem, strict=False)
    batch = images((32, 64), (20, 40))
    wanted = create_feature_extractor(resnet, list(levels))
    with torch.no_grad():
        for found, expected in zip(backbone.eval()(batch), wanted(batch.pixels).values(), strict=True):
            torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5 * expected.std().item())


@pytest.mark.parametrize(
    ("levels", "stages"),
    [
        (("layer2",), ["stem", "layer1", "layer2"]),
        (("layer3",), ["stem", "layer1", "layer2", "layer3"]),
        (("layer2", "layer4"), ["stem", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_there_are_no_stages_beyond_the_last_level(levels: tuple[str, ...], stages: list[str]) -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name="resnet18", weights="none", levels=levels))
    assert [name for name, _ in backbone.named_children()] == stages


@pytest.mark.parametrize("frozen_stages", [3, 4, 5])
def test_freezing_more_stages_than_there_are_freezes_them_all(frozen_stages: int) -> None:
    settings = BackboneSettings(
        name="resnet18", weights="none", levels=("layer2",), frozen_stages=frozen_stages
    )
    with torch.device("meta"):
        backbone = Backbone(settings)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("frozen_stages", range(6))
def test_only_stages_beyond_the_frozen_ones_are_trained(frozen_stages: int) -> None:
    settings = BackboneSettings(name="resnet18", weights="none", frozen_stages=frozen_stages)
    with torch.device("meta"):
        stages = list(Backbone(settings).children())
    trained = [any(parameter.requires_grad for parameter in stage.parameters()) for stage in stages]
    assert trained == [number >= frozen_stages for number in range(5)]


def running_means(stage: nn.Module) -> list[Tensor]:
    return [module.running_mean.clone() for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_training_step_moves_nothing_of_frozen_stages() -> None:
    torch.manual_seed(0)
    backbone = Backbone(
        BackboneSettings(name="resnet18", weights="none", norm="batch", frozen_stages=2)
    ).train()
    before = [running_means(stage) for stage in backbone.children()]
    (found,) = backbone(images((64, 32)))
    found.values.sum().backward()
    moved = [
        any(not torch.equal(*means) for means in zip(running_means(stage), old, strict=True))
        for stage, old in zip(backbone.children(), before, strict=True)
    ]
    assert moved == [False, False, True, True, True]
    for number, stage in enumerate(backbone.children()):
        assert all((parameter.grad is None) == (number < 2) for parameter in stage.parameters())


@pytest.mark.parametrize(
    ("given", "norm"),
    [
        ({"weights": "none"}, nn.GroupNorm),
        ({"weights": "imagenet"}, FrozenBatchNorm2d),
        ({"weights": "resnet.pth"}, FrozenBatchNorm2d),
        ({"weights": "none", "norm": "batch"}, nn.BatchNorm2d),
        ({"weights": "none", "norm": "frozen"}, FrozenBatchNorm2d),
        ({"weights": "imagenet", "norm": "batch"}, nn.BatchNorm2d),
    ],
    ids=str,
)
def test_random_weights_are_normalised_in_groups_unless_told_otherwise(
    given: dict[str, str], norm: type[nn.Module]
) -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name="resnet18", **given))
    norms = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.GroupNorm | nn.BatchNorm2d | FrozenBatchNorm2d)
    ]
    assert len(norms) == 20  # 1 in the stem, 16 in the blocks, 3 beside the strided ones
    assert all(isinstance(module, norm) for module in norms)
    if norm is nn.GroupNorm:
        assert {module.num_groups for module in norms} == {32}


def test_evaluation_puts_every_stage_in_evaluation_and_training_only_the_trained() -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneSettings(name="resnet18", weights="none", frozen_stages=1))
    assert [stage.training for stage in backbone.train().children()] == [False, True, True, True, True]
    assert not any(stage.training for stage in backbone.eval().children())


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """torch.export cannot look into jaxtyping's checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("without_shape_checks")
def test_an_exported_backbone_takes_any_batch_and_size() -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name="resnet18", weights="none")).eval()
    any_size = torch.export.Dim.AUTO
    shapes = Images({0: any_size, 2: any_size, 3: any_size}, {0: any_size, 1: any_size, 2: any_size})
    exported = torch.export.export(backbone, (images((64, 90), (40, 96)),), dynamic_shapes=(shapes,)).module()
    batch = images((70, 33), (65, 50), (64, 40))
    with torch.no_grad():
        for found, expected in zip(exported(batch)[0], backbone(batch)[0], strict=True):
            torch.testing.assert_close(found, expected)
