"""SSD (Liu et al. 2016) and SSDlite (Howard et al. 2019), built of torchvision's parts."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, assert_never

from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import _utils as torchvision_parts
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDFeatureExtractorVGG
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.models.vgg import cfgs, make_layers

from detrkit.models.as_given import AsGiven
from detrkit.settings.classical import MobileNetSettings, VggSettings

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the data loader normalised with."""


def build_ssd300(settings: VggSettings, num_classes: int) -> SSD:
    """SSD300 with VGG-16, whose pretrained weights were made for pixels from 0 to 255 around their mean."""
    boxes = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    _, backbone = feature_maps(settings)
    network = SSD(backbone, boxes, (300, 300), num_classes + 1)
    network.transform = (
        AsGiven(300)
        if settings.weights == "none"
        else _renormalised(300, (0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
    )
    return network


def build_ssdlite320(settings: MobileNetSettings, num_classes: int) -> SSD:
    """SSDlite320 with MobileNetV3-Large, for pixels from -1 to 1 as in torchvision."""
    size = (320, 320)
    _, backbone = feature_maps(settings)
    boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = torchvision_parts.retrieve_out_channels(backbone, size)
    head = SSDLiteHead(channels, boxes.num_anchors_per_location(), num_classes + 1, _norm_layer(settings))
    network = SSD(backbone, boxes, size, num_classes + 1, head=head, topk_candidates=300)
    network.transform = _renormalised(320, (0.5,) * 3, (0.5,) * 3)
    return network


def feature_maps(settings: VggSettings | MobileNetSettings) -> tuple[nn.Module, nn.Module]:
    """The layers of a network for ImageNet, and what makes SSD's feature maps of them and of further ones."""
    match settings:
        case VggSettings():
            layers = _vgg()
            return layers, SSDFeatureExtractorVGG(layers, highres=False)
        case MobileNetSettings():
            layers = _mobilenet(settings)
            last_halving = max(place for place, block in enumerate(layers) if _halves(block))
            return layers, SSDLiteFeatureExtractorMobileNet(layers, last_halving, _norm_layer(settings))
        case _:
            assert_never(settings)


def ssd_stages(backbone: nn.Module) -> list[nn.ModuleList]:
    """The parts of VGG's or MobileNet's features between halvings of the resolution, from the pixels on."""
    if isinstance(backbone, SSDFeatureExtractorVGG):
        layers = list(backbone.features.children())
        halvings = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    else:
        # its last layer is the beginning of the block that halves the resolution next
        layers = list(backbone.get_submodule("features.0").children())[:-1]
        halvings = [place for place, layer in enumerate(layers) if _halves(layer)]
    return [nn.ModuleList(layers[start:end]) for start, end in pairwise([0, *halvings, len(layers)])]


def _vgg() -> Any:
    """VGG-16's features, as torchvision starts them; ``vgg16`` would make a large classifier as well."""
    layers = make_layers(cfgs["D"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return layers


def _mobilenet(settings: MobileNetSettings) -> Any:
    random = settings.weights == "none"
    layers = mobilenet_v3_large(weights=None, norm_layer=_norm_layer(settings), reduced_tail=random).features
    if random:
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.03)
    return layers


def _halves(block: nn.Module) -> bool:
    """Whether a block of MobileNetV3 halves the resolution."""
    return getattr(block, "_is_cn", False)


def _renormalised(divisible: int, mean: Sequence[float], std: Sequence[float]) -> AsGiven:
    """For pixels with another mean and deviation than the data loader's."""
    scale = [ours / theirs for ours, theirs in zip(_STD, std, strict=True)]
    shift = [(ours - theirs) / by for ours, theirs, by in zip(_MEAN, mean, std, strict=True)]
    return AsGiven(divisible, scale, shift)


def _norm_layer(settings: MobileNetSettings) -> Callable[..., nn.Module]:
    if settings.norm == "group":
        return partial(nn.GroupNorm, 8)
    return partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
