"""ResNet (He et al. 2016) as a feature extractor, from torchvision."""

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch.nn.functional as F
import torchvision
from jaxtyping import Bool
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from detrkit.models.contracts import FeatureMap
from detrkit.settings.model import BackboneSettings
from detrkit.structures import Images


class Backbone(nn.Module):
    """The last feature map of a ResNet: stride 32, or 16 with dilation.

    The parameters of the first ``frozen_stages`` stages (stem, layer1, ..) are not trained.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        build = getattr(torchvision.models, settings.name)
        resnet = build(
            weights=None,
            norm_layer=_norm_layer(settings),
            replace_stride_with_dilation=[False, False, settings.dilation],
        )
        self.out_channels: list[int] = [resnet.fc.in_features]
        self.stem = nn.Sequential()
        for name in ("conv1", "bn1", "relu", "maxpool"):
            self.stem.add_module(name, getattr(resnet, name))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            resnet.layer1,
            resnet.layer2,
            resnet.layer3,
            resnet.layer4,
        )
        self._frozen = self.stages()[: settings.frozen_stages]
        for stage in self._frozen:
            stage.requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The stem and the four groups of blocks, in order."""
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, images: Images) -> list[FeatureMap]:
        """One feature map per level; here the last stage's alone."""
        values = images.pixels
        for stage in self.stages():
            values = stage(values)
        return [FeatureMap(values, _shrink(images.valid, values.shape[-2:]))]

    def train(self, mode: bool = True) -> "Backbone":
        """Switch to training, but leave frozen stages in evaluation, so that no statistics move there."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self


def _norm_layer(settings: BackboneSettings) -> Callable[..., nn.Module]:
    match settings.norm:
        case "frozen":
            return FrozenBatchNorm2d
        case "group":
            return partial(nn.GroupNorm, 32)
        case "batch":
            return nn.BatchNorm2d
        case _:
            assert_never(settings.norm)


def _shrink(valid: Bool[Tensor, "B H W"], size: tuple[int, ...]) -> Bool[Tensor, "B h w"]:
    # The nearest pixel decides, as in the original, so that a cell counts only if its first pixel does.
    return F.interpolate(valid[:, None].float(), size=size).squeeze(1) > 0.5
