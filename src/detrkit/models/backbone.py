"""ResNet (He et al. 2016) as a feature extractor, from torchvision."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
import torchvision
from jaxtyping import Bool
from torch import Tensor, nn

from detrkit.layers.folded import FoldedNorm, fold_norms
from detrkit.models.contracts import FeatureMap
from detrkit.settings.model import BackboneSettings, ResNetSettings
from detrkit.structures import Images


class Backbone(nn.Module):
    """The feature maps of a ResNet's stages: layer4's has stride 32, or 16 with dilation.

    The parameters of the first ``frozen_stages`` stages (stem, layer1, ..) are not trained. There are no
    stages beyond the last of the ``levels``.

    Attributes:
        out_channels: The channels of each level's map.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        build = getattr(torchvision.models, settings.name)
        resnet = build(
            weights=None,
            norm_layer=norm_layer(settings),
            replace_stride_with_dilation=[False, False, settings.dilation],
        )
        fold_norms(resnet)
        self.levels = settings.levels
        self.out_channels = [resnet.fc.in_features >> 4 - int(level[-1]) for level in self.levels]
        self.stem = nn.Sequential()
        for name in ("conv1", "bn1", "relu", "maxpool"):
            self.stem.add_module(name, getattr(resnet, name))
        for number in range(1, int(self.levels[-1][-1]) + 1):
            self.add_module(f"layer{number}", getattr(resnet, f"layer{number}"))
        self._frozen = list(self.children())[: settings.frozen_stages]
        for stage in self._frozen:
            stage.requires_grad_(False)

    def forward(self, images: Images) -> list[FeatureMap]:
        """One feature map per level, from fine to coarse."""
        # convolutions, normalisations and poolings keep this layout, which is the faster one
        values, maps = images.pixels.contiguous(memory_format=torch.channels_last), []
        for name, stage in self.named_children():
            values = stage(values)
            if name in self.levels:
                maps.append(FeatureMap(values, _shrink(images.valid, values.shape[-2:])))
        return maps

    def train(self, mode: bool = True) -> "Backbone":
        """Switch to training, but leave frozen stages in evaluation, so that no statistics move there."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self


def norm_layer(settings: ResNetSettings) -> Callable[..., nn.Module]:
    """What makes a ResNet's normalisation of so many channels."""
    match settings.norm:
        case "frozen":
            return FoldedNorm
        case "group":
            return partial(nn.GroupNorm, 32)
        case "batch":
            return nn.BatchNorm2d
        case _:
            assert_never(settings.norm)


def _shrink(valid: Bool[Tensor, "B H W"] | None, size: torch.Size) -> Bool[Tensor, "B h w"] | None:
    if valid is None:
        return None
    # The nearest pixel decides, as in the original, so that a cell counts only if its first pixel does.
    return F.interpolate(valid[:, None].float(), size=size).squeeze(1) > 0.5
