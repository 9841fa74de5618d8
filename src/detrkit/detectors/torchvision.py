"""Classical detectors behind the contract: the same pixels, objects, loop and evaluator as a DETR."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detrkit.boxes import cxcywh_to_xyxy
from detrkit.catalog import Category
from detrkit.detectors.detector import Detector
from detrkit.models.classical import build_classical, first_label, stages
from detrkit.settings.classical import ClassicalSettings
from detrkit.structures import Detections, Images, ImageSize, LossReport, Objects, Totals

_NO_LIMIT = 2**31 - 1

_TERMS = {
    "loss_classifier": "classification",
    "loss_box_reg": "box_regression",
    "loss_objectness": "proposal_objectness",
    "loss_rpn_box_reg": "proposal_regression",
    "classification": "classification",
    "bbox_regression": "box_regression",
    "bbox_ctrness": "centerness",
}
"""What torchvision calls its losses, and what they are called here."""

Size = tuple[int, int]
"""(height, width) in pixels."""


class TorchvisionDetector(Detector):
    """``network`` is torchvision's, with its own names of weights.

    Its internal resizing and normalisation are taken out, and boxes end at the true border of each image,
    not at that of its padding.
    """

    def __init__(
        self, settings: ClassicalSettings, categories: tuple[Category, ...], image_size: ImageSize
    ) -> None:
        super().__init__(categories, image_size)
        self.network = build_classical(settings, len(categories))
        self._first_label = first_label(settings)
        self._frozen = stages(self.network)[: settings.backbone.frozen_stages]
        for stage in self._frozen:
            stage.requires_grad_(False)

    @property
    def backbone(self) -> nn.Module:
        """The ResNet before the pyramid, or all that makes feature maps in SSD."""
        backbone = self.network.get_submodule("backbone")
        return backbone.get_submodule("body") if hasattr(backbone, "body") else backbone

    @property
    def max_objects(self) -> int:
        """As many as there are: an object needs no query of its own."""
        return _NO_LIMIT

    def train(self, mode: bool = True) -> "TorchvisionDetector":
        """Switch to training, but leave frozen stages in evaluation, so that no statistics move there."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def forward(self, images: Images, objects: list[Objects], totals: Totals) -> LossReport:
        """Torchvision's losses of a batch, weighted by its share of the images of the step.

        torchvision takes means within a forward pass: RetinaNet over images, each divided by its own matched
        anchors; Faster R-CNN over sampled anchors and proposals; FCOS and SSD over the matched places of the
        batch. So the sum over a step is a mean over its images. For RetinaNet it is exactly the loss of one
        large batch, for the others as far as the forward passes have as many samples for each image.
        """
        sizes = _true_sizes(images)
        targets = [_target(*each, self._first_label) for each in zip(objects, sizes, strict=True)]
        with _asked(self.network, training=True):
            losses: dict[str, Tensor] = self.network(_cut(images, sizes), targets)
        share = len(objects) / totals.images
        terms = {_TERMS[name]: share * loss[None] for name, loss in losses.items()}
        total = torch.cat(list(terms.values())).sum()
        return LossReport(total, {name: term.detach() for name, term in terms.items()})

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile what makes the feature maps, in place; what sorts and chooses boxes stays as it is."""
        self.network.get_submodule("backbone").compile(*args, **kwargs)

    def detect(self, images: Images, sizes: list[Size]) -> list[Detections]:
        """What torchvision's own postprocessing keeps; boxes end at the image's border."""
        given = _true_sizes(images)
        with _asked(self.network, training=False):
            answers: list[dict[str, Tensor]] = self.network(_cut(images, given))
        return [
            Detections(
                boxes=answer["boxes"] * _scale(seen, original, answer["boxes"]),
                scores=answer["scores"],
                labels=answer["labels"] - self._first_label,
            )
            for answer, seen, original in zip(answers, given, sizes, strict=True)
        ]


def _true_sizes(images: Images) -> list[Size]:
    """What of each image is not padding."""
    if images.valid is None:
        batch, _, height, width = images.pixels.shape
        return [(height, width)] * batch
    sides = torch.stack([images.valid[:, :, 0].sum(1), images.valid[:, 0].sum(1)], dim=1)
    return [(height, width) for height, width in sides.tolist()]


def _cut(images: Images, sizes: list[Size]) -> list[Tensor]:
    """The images without their padding, where they lie."""
    return [pixels[:, :height, :width] for pixels, (height, width) in zip(images.pixels, sizes, strict=True)]


def _target(objects: Objects, size: Size, first_label: int) -> dict[str, Tensor]:
    """The objects as torchvision takes them, in pixels of the image that the network sees.

    torchvision refuses a batch with a box whose sides float32 cannot tell apart. Such boxes are left out.
    """
    height, width = size
    boxes = cxcywh_to_xyxy(objects.boxes) * objects.boxes.new_tensor([width, height, width, height])
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {"boxes": boxes[has_area], "labels": objects.labels[has_area] + first_label}


def _scale(seen: Size, original: Size, like: Tensor) -> Tensor:
    """What boxes are multiplied by to be in pixels of the original."""
    y, x = (after / before for after, before in zip(original, seen, strict=True))
    return like.new_tensor([x, y, x, y])


@contextmanager
def _asked(network: nn.Module, training: bool) -> Iterator[None]:
    """Have the network answer with losses or with detections, whatever mode its layers are in.

    torchvision asks the mode of the network as a whole and of its two stages which it is.
    """
    parts = [network, *(part for name, part in network.named_children() if name in ("rpn", "roi_heads"))]
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = training
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
