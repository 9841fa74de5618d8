"""The two sides: detrkit's DETR with ResNet-50 and transformers', with the same random weights.

The peer is built as its default configuration says, with timm's ResNet and frozen batch normalisation.
That configuration drops out residual branches alone, where detrkit, like the original, also drops out
attention weights and hidden units: the peer has less to do.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

from detrkit.detectors.build import build_detector
from detrkit.detectors.detector import Detector
from detrkit.settings.experiment import Experiment, recipe
from detrkit.structures import Objects
from detrkit.weights import huggingface
from detrkit.weights.coco import COCO_91


class Pair(NamedTuple):
    """The same network twice."""

    ours: Detector
    peer: Any
    experiment: Experiment


def build_pair(device: str, short: bool) -> Pair:
    """Both networks with the peer's initial weights; ``short`` ones have a small ResNet and few layers."""
    name, layers = ("resnet18", 1) if short else ("resnet50", 6)
    peer = build_peer(name, layers)
    overrides = {"model.backbone.name": name, "model.encoder.layers": layers, "model.decoder.layers": layers}
    experiment = recipe("detr_r50", overrides)
    ours = build_detector(experiment, COCO_91)
    with TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        ours.load_state_dict(huggingface.read(Path(folder)).tensors)
    return Pair(ours.to(device), peer.to(device), experiment)


def build_peer(resnet: str, layers: int) -> Any:
    """transformers' DETR with random weights; nothing is downloaded."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.DetrConfig(
        use_timm_backbone=True,
        use_pretrained_backbone=False,
        backbone=resnet,
        encoder_layers=layers,
        decoder_layers=layers,
        num_labels=len(COCO_91),
    )
    peer = transformers.DetrForObjectDetection(config)
    _spread_norms(peer)
    return peer


def draw_image(height: int, width: int, seed: int = 0) -> Tensor:
    """A normalised image of noise, ``[3, height, width]``."""
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def draw_objects(counts: list[int], device: str) -> list[Objects]:
    """So many objects per image at random."""
    generator = torch.Generator().manual_seed(0)
    return [
        Objects(
            torch.cat(
                [
                    torch.rand(n, 2, generator=generator) * 0.5 + 0.25,
                    torch.rand(n, 2, generator=generator) * 0.4 + 0.05,
                ],
                1,
            ).to(device),
            torch.randint(1, len(COCO_91), (n,), generator=generator).to(device),
        )
        for n in counts
    ]


def as_labels(objects: list[Objects]) -> list[dict[str, Tensor]]:
    """Objects as transformers takes them."""
    return [{"boxes": image.boxes, "class_labels": image.labels} for image in objects]


@torch.no_grad()
def _spread_norms(peer: nn.Module) -> None:
    """timm starts with residual branches that are zero; these look as if they had been trained."""
    for name, tensor in peer.state_dict().items():
        if name.endswith("weight") and ("bn3" in name or "bn2" in name):
            tensor.fill_(0.3)
