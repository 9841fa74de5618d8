"""The detectors that DETR is compared with. They are torchvision's, and so are the defaults."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from detrkit.settings.model import ResNetSettings
from detrkit.settings.section import Count, Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Pyramid = tuple[Count, Count, Count, Count, Count]


class _TwoStageSettings(Section):
    version: Literal[1, 2] = 1
    """torchvision's second version has two convolutions where proposals are made, four and normalisation
    before the boxes' head, and normalisation in the pyramid (Li et al. 2021)."""
    backbone: ResNetSettings = ResNetSettings()
    anchors: Pyramid = (32, 64, 128, 256, 512)
    """Sides of the square anchors in pixels, one for each level of the pyramid, whose strides are 4 to 64.
    Each also comes with the aspect ratios 1:2 and 2:1."""
    proposals: Count = 1000
    """Most places of an image that the second stage judges, from as many of each level; twice as many in
    training."""
    samples: Count = 512
    """Proposals of an image that the second stage learns from, a quarter of them objects at most."""
    score_threshold: Fraction = 0.05
    """Detections with a lower score are left out."""
    nms_iou: Fraction = 0.5
    """Of two detections of a class that overlap by more than this IoU, the one with the lower score is left
    out."""
    detections: Count = 100
    """Most detections of an image."""

    @model_validator(mode="after")
    def _check_version(self) -> "_TwoStageSettings":
        if self.version == 2 and self.backbone.norm == "frozen":
            raise ValueError(
                "version is 2, which normalises its pyramid and its head as its backbone, but "
                "backbone.norm is 'frozen', which learns nothing; take 'batch', or 'group' with "
                "backbone.weights 'none'"
            )
        return self


class FasterRcnnSettings(_TwoStageSettings):
    """Faster R-CNN with a feature pyramid (Ren et al. 2015, Lin et al. 2017)."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    """Which detector."""


class MaskRcnnSettings(_TwoStageSettings):
    """Mask R-CNN (He et al. 2017) without its branch of masks.

    What is left is Faster R-CNN. It takes the weights that Mask R-CNN was published with, which were trained
    on masks too.
    """

    kind: Literal["mask_rcnn"] = "mask_rcnn"
    """Which detector."""


class RetinaNetSettings(Section):
    """RetinaNet: one stage, dense anchors and the focal loss (Lin et al. 2017)."""

    kind: Literal["retinanet"] = "retinanet"
    """Which detector."""
    version: Literal[1, 2] = 1
    """torchvision's second version has GroupNorm in its heads, the GIoU as its loss of boxes, and makes the
    two coarsest levels from the backbone's last one (Zhang et al. 2020)."""
    backbone: ResNetSettings = ResNetSettings()
    anchors: Pyramid = (32, 64, 128, 256, 512)
    """Sides of the smallest square anchors in pixels, one for each level of the pyramid, whose strides are 8
    to 128. Each also comes a third and two thirds of an octave larger, and with the aspect ratios 1:2 and
    2:1."""
    score_threshold: Fraction = 0.05
    """Detections with a lower score are left out."""
    nms_iou: Fraction = 0.5
    """Of two detections of a class that overlap by more than this IoU, the one with the lower score is left
    out."""
    detections: Count = 300
    """Most detections of an image."""


class FcosSettings(Section):
    """FCOS: one stage without anchors (Tian et al. 2019)."""

    kind: Literal["fcos"] = "fcos"
    """Which detector."""
    backbone: ResNetSettings = ResNetSettings()
    score_threshold: Fraction = 0.2
    """Detections with a lower score are left out."""
    nms_iou: Fraction = 0.6
    """Of two detections of a class that overlap by more than this IoU, the one with the lower score is left
    out."""
    detections: Count = 100
    """Most detections of an image."""


class VggSettings(Section):
    """SSD's backbone, which has no normalisation."""

    name: Literal["vgg16"] = "vgg16"
    """Which network."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's for SSD), `none` (random), or a file with VGG-16's weights."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = Field(
        default_factory=lambda given: 0 if given.get("weights") == "none" else 1
    )
    """How many stages, which end where the resolution is halved, are not trained. Unless set: 0 if `weights`
    is `none`, else 1."""


class Ssd300Settings(Section):
    """SSD (Liu et al. 2016) on images of at most 300 x 300 pixels, which are padded to this size.

    The published one stretches images to it instead.
    """

    kind: Literal["ssd300"] = "ssd300"
    """Which detector."""
    backbone: VggSettings = VggSettings()
    score_threshold: Fraction = 0.01
    """Detections with a lower score are left out."""
    nms_iou: Fraction = 0.45
    """Of two detections of a class that overlap by more than this IoU, the one with the lower score is left
    out."""
    detections: Count = 200
    """Most detections of an image."""


class MobileNetSettings(Section):
    """SSDlite's backbone."""

    name: Literal["mobilenet_v3_large"] = "mobilenet_v3_large"
    """Which network."""
    weights: str = "none"
    """`none` (random, and with the last stage half as wide, as the published SSDlite320 was trained),
    `imagenet` (torchvision's), or a file with the weights of MobileNetV3-Large."""
    norm: Literal["group", "batch"] = "batch"
    """`batch` (BatchNorm), or `group` (GroupNorm of 8) where `weights` is `none`, in the heads too."""
    frozen_stages: Annotated[int, Field(ge=0, le=4)] = 0
    """How many stages, which begin where the resolution is halved, are not trained."""

    @model_validator(mode="after")
    def _check(self) -> "MobileNetSettings":
        if self.norm == "group" and self.weights != "none":
            raise ValueError(
                f"norm is 'group', but pretrained weights ({self.weights}) carry BatchNorm; "
                "take norm 'batch', or weights 'none'"
            )
        return self


class SsdLite320Settings(Section):
    """SSDlite (Howard et al. 2019) on images of at most 320 x 320 pixels, which are padded to this size.

    The published one stretches images to it instead.
    """

    kind: Literal["ssdlite320"] = "ssdlite320"
    """Which detector."""
    backbone: MobileNetSettings = MobileNetSettings()
    score_threshold: Fraction = 0.001
    """Detections with a lower score are left out."""
    nms_iou: Fraction = 0.55
    """Of two detections of a class that overlap by more than this IoU, the one with the lower score is left
    out."""
    detections: Count = 300
    """Most detections of an image."""


ClassicalSettings = (
    FasterRcnnSettings
    | MaskRcnnSettings
    | RetinaNetSettings
    | FcosSettings
    | Ssd300Settings
    | SsdLite320Settings
)
"""The settings of any of them."""
