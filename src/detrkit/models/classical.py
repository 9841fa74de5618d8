"""Classical detectors, built of torchvision's own parts from settings, with random weights.

Their weights have torchvision's names. They take images as they are given, since what torchvision would do to
them (normalise and resize) the data loader has done. Where a network computes in bfloat16 or float16, anchors
and the answers of the heads are in float32, so that boxes, losses and the suppression of duplicates are too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, assert_never

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from detrkit.errors import NotFiniteError
from detrkit.layers.folded import fold_norms
from detrkit.models.as_given import AsGiven
from detrkit.models.backbone import norm_layer
from detrkit.models.ssd import build_ssd300, build_ssdlite320, ssd_stages
from detrkit.settings.classical import (
    ClassicalSettings,
    FasterRcnnSettings,
    FcosSettings,
    MaskRcnnSettings,
    RetinaNetSettings,
    Ssd300Settings,
    SsdLite320Settings,
)
from detrkit.settings.model import ResNetSettings

_WIDTH = 256
"""Channels of every level of the pyramid."""


class CoarserLevels(LastLevelP6P7):
    """torchvision's two coarsest levels, trained in float32.

    In bfloat16 on a CPU, torch 2.14 takes the gradient of a convolution's weights from memory that was never
    written, where its stride is 2 and its map has a single place, as that of an image of 64 pixels has here.
    """

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The levels with two more, and their names."""
        if not torch.is_grad_enabled():
            return super().forward(p, c, names)
        with torch.autocast(p[-1].device.type, enabled=False):
            coarser, names = super().forward([_to_float32(p[-1])], [_to_float32(c[-1])], names)
        return [*p, *coarser[1:]], names


def build_classical(settings: ClassicalSettings, num_classes: int) -> nn.Module:
    """The network that the settings describe, with its published random initial weights, backbone included.

    It takes a list of images and, in training, of torchvision's targets. ``first_label`` says which label it
    has for our label 0.
    """
    match settings:
        case FasterRcnnSettings() | MaskRcnnSettings():
            network = _two_stages(settings, num_classes)
        case RetinaNetSettings():
            network = _retinanet(settings, num_classes)
        case FcosSettings():
            network = FCOS(_pyramid(settings.backbone, CoarserLevels(_WIDTH, _WIDTH), (2, 3, 4)), num_classes)
        case Ssd300Settings():
            network = build_ssd300(settings.backbone, num_classes)
        case SsdLite320Settings():
            network = build_ssdlite320(settings.backbone, num_classes)
        case _:
            assert_never(settings)
    _answer_as_told(network, settings)
    _compute_boxes_in_float32(network)
    return network


def first_label(settings: ClassicalSettings) -> int:
    """The label that a network has for the first class: 1 where 0 is the background."""
    return 0 if isinstance(settings, RetinaNetSettings | FcosSettings) else 1


def stages(network: nn.Module) -> list[nn.ModuleList]:
    """The parts of a backbone that can be frozen one after the other, from the pixels on."""
    backbone = network.get_submodule("backbone")
    if not isinstance(backbone, BackboneWithFPN):
        return ssd_stages(backbone)
    names = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
    return [nn.ModuleList(backbone.body.get_submodule(name) for name in stage) for stage in names]


def _two_stages(settings: FasterRcnnSettings | MaskRcnnSettings, num_classes: int) -> FasterRCNN:
    norm = norm_layer(settings.backbone) if settings.version == 2 else None
    backbone = _pyramid(settings.backbone, LastLevelMaxPool(), (1, 2, 3, 4), norm)
    anchors = AnchorGenerator(
        tuple((side,) for side in settings.anchors), ((0.5, 1.0, 2.0),) * len(settings.anchors)
    )
    given: dict[str, Any] = {
        "num_classes": num_classes + 1,
        "rpn_anchor_generator": anchors,
        "rpn_pre_nms_top_n_train": 2 * settings.proposals,
        "rpn_post_nms_top_n_train": 2 * settings.proposals,
        "rpn_pre_nms_top_n_test": settings.proposals,
        "rpn_post_nms_top_n_test": settings.proposals,
        "box_batch_size_per_image": settings.samples,
    }
    if settings.version == 2:
        given["rpn_head"] = RPNHead(_WIDTH, anchors.num_anchors_per_location()[0], conv_depth=2)
        given["box_head"] = FastRCNNConvFCHead((_WIDTH, 7, 7), [_WIDTH] * 4, [1024], norm_layer=norm)
    return FasterRCNN(backbone, **given)


def _retinanet(settings: RetinaNetSettings, num_classes: int) -> RetinaNet:
    # whole pixels, as in torchvision and in the original
    octaves = [(side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in settings.anchors]
    anchors = AnchorGenerator(tuple(octaves), ((0.5, 1.0, 2.0),) * len(octaves))
    resnet = _resnet(settings.backbone)
    coarsest = _WIDTH if settings.version == 1 else resnet.inplanes
    backbone = _with_pyramid(resnet, CoarserLevels(coarsest, _WIDTH), (2, 3, 4))
    head = None
    if settings.version == 2:
        number = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(_WIDTH, number, num_classes, norm_layer=partial(nn.GroupNorm, 32))
        head.regression_head._loss_type = "giou"  # which is how torchvision sets it
    return RetinaNet(backbone, num_classes, anchor_generator=anchors, head=head)


def _pyramid(
    settings: ResNetSettings,
    coarser: ExtraFPNBlock,
    stages: tuple[int, ...],
    norm: Callable[..., nn.Module] | None = None,
) -> BackboneWithFPN:
    return _with_pyramid(_resnet(settings), coarser, stages, norm)


def _with_pyramid(
    resnet: torchvision.models.ResNet,
    coarser: ExtraFPNBlock,
    stages: tuple[int, ...],
    norm: Callable[..., nn.Module] | None = None,
) -> BackboneWithFPN:
    channels = [resnet.inplanes >> 4 - stage for stage in stages]
    names = {f"layer{stage}": str(place) for place, stage in enumerate(stages)}
    return BackboneWithFPN(resnet, names, channels, _WIDTH, extra_blocks=coarser, norm_layer=norm)


def _resnet(settings: ResNetSettings) -> torchvision.models.ResNet:
    resnet = getattr(torchvision.models, settings.name)(weights=None, norm_layer=norm_layer(settings))
    fold_norms(resnet)
    return resnet


def _answer_as_told(network: nn.Module, settings: ClassicalSettings) -> None:
    answering: Any = network.roi_heads if isinstance(network, FasterRCNN) else network
    answering.score_thresh = settings.score_threshold
    answering.nms_thresh = settings.nms_iou
    answering.detections_per_img = settings.detections
    if not isinstance(network, SSD):
        network.transform = AsGiven(divisible=32)


def _compute_boxes_in_float32(network: nn.Module) -> None:
    if isinstance(network, FasterRCNN):
        heads = [network.rpn.head, network.roi_heads.box_predictor]
        anchors = network.rpn.anchor_generator
    else:
        heads, anchors = [network.head], network.anchor_generator
    for head in heads:
        assert isinstance(head, nn.Module)
        head.register_forward_hook(_answer_in_float32)
        head.register_forward_hook(_refuse_what_is_not_finite)
    assert isinstance(anchors, nn.Module)
    anchors.register_forward_pre_hook(_place_in_float32)


def _answer_in_float32(module: nn.Module, given: object, answer: object) -> object:
    return _to_float32(answer)


def _refuse_what_is_not_finite(module: nn.Module, given: object, answer: Any) -> None:
    """Where torchvision would leave out all detections, since their scores are not numbers."""
    if torch.is_grad_enabled():
        return  # the loss will show it
    parts = answer.values() if isinstance(answer, Mapping) else answer
    for part in parts:
        for tensor in part if isinstance(part, list) else [part]:
            if not torch.isfinite(tensor).all():
                raise NotFiniteError(
                    "the detector answers with numbers that are not finite: its weights are damaged, or the "
                    "precision is too low; take an earlier checkpoint, or fp32."
                )


def _place_in_float32(
    module: nn.Module, given: tuple[ImageList, list[Tensor]]
) -> tuple[ImageList, list[Tensor]]:
    """Anchors have the format of the maps that they are for, of which only the shapes count."""
    images, maps = given
    return images, [
        one.new_zeros((), dtype=torch.promote_types(one.dtype, torch.float32)).expand(one.shape)
        for one in maps
    ]


def _to_float32(answer: Any) -> Any:
    match answer:
        case Tensor():
            return answer.to(torch.promote_types(answer.dtype, torch.float32))
        case Mapping():
            return {name: _to_float32(part) for name, part in answer.items()}
        case _:
            return type(answer)(_to_float32(part) for part in answer)
