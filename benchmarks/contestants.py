"""The two sides: detrkit's DETR with ResNet-50, and transformers'.

The peer is built as its default configuration says, with timm's ResNet and frozen batch normalisation.
That configuration drops out residual branches alone, where detrkit, like the original, also drops out
attention weights and hidden units: the peer has less to do.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor

from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.settings.experiment import Experiment, recipe
from detrkit.structures import Images, Objects
from detrkit.weights import huggingface
from detrkit.weights.coco import COCO_91


def experiment(short: bool) -> Experiment:
    """The recipe of DETR with ResNet-50; ``short`` has a small ResNet and one layer of each kind."""
    small = {"model.backbone.name": "resnet18", "model.encoder.layers": 1, "model.decoder.layers": 1}
    return recipe("detr_r50", small if short else {})


def build_ours(device: str, short: bool) -> Detector:
    """detrkit's detector with random weights."""
    torch.manual_seed(0)
    return build_detector(experiment(short), COCO_91).to(device)


def build_peer(device: str, short: bool) -> Any:
    """transformers' detector with random weights, of which nothing is downloaded."""
    torch.manual_seed(0)
    small = {"backbone": "resnet18", "encoder_layers": 1, "decoder_layers": 1}
    config = transformers.DetrConfig(
        use_timm_backbone=True,
        use_pretrained_backbone=False,
        num_labels=len(COCO_91),
        **small if short else {},
    )
    return transformers.DetrForObjectDetection(config).to(device)


def copy_weights(peer: Any, ours: Detector) -> None:
    """Make both the same network, by the files of transformers that detrkit reads."""
    with TemporaryDirectory() as folder:
        transformers.utils.logging.disable_progress_bar()
        peer.save_pretrained(folder)
        ours.load_state_dict(huggingface.read(Path(folder)).tensors)


def draw_images(number: int, height: int, width: int, device: str) -> Images:
    """Normalised images of noise, of one size, so that nothing is padded."""
    pixels = torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(0))
    return Images(pixels.to(device))


def draw_objects(counts: list[int], device: str) -> list[Objects]:
    """So many objects per image, at random and of every size."""
    generator = torch.Generator().manual_seed(0)
    objects = []
    for count in counts:
        centres, sizes = torch.rand(2, count, 2, generator=generator)
        labels = torch.randint(len(COCO_91), (count,), generator=generator)
        boxes = torch.cat([0.25 + 0.5 * centres, 0.02 + 0.48 * sizes], dim=1)
        objects.append(Objects(boxes.to(device), labels.to(device)))
    return objects


def as_labels(objects: list[Objects]) -> list[dict[str, Tensor]]:
    """Objects as transformers takes them."""
    return [{"boxes": image.boxes, "class_labels": image.labels} for image in objects]
