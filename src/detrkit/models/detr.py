"""DETR (Carion et al. 2020, "End-to-End Object Detection with Transformers", arXiv 2005.12872)."""

from torch import nn

from detrkit.models.backbone import Backbone
from detrkit.models.contracts import Decoder
from detrkit.models.decoders.plain import PlainDecoder
from detrkit.models.encoder import Encoder
from detrkit.settings.model import ModelSettings
from detrkit.structures import DetrOutput, Images, Objects


class Detr(nn.Module):
    """A backbone sees, an encoder relates, a decoder answers."""

    def __init__(self, backbone: Backbone, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Images, objects: list[Objects] | None = None) -> DetrOutput:
        """The answers of all decoder layers; ``objects`` are the truth, given in training only."""
        return self.decoder(self.encoder(self.backbone(images)), objects)


def build_detr(settings: ModelSettings, num_logits: int) -> Detr:
    """The network that the settings describe, with DETR's random initial weights, backbone included."""
    backbone = Backbone(settings.backbone)
    encoder = Encoder(settings.encoder, settings.transformer, backbone.out_channels)
    decoder = PlainDecoder(settings.decoder, settings.transformer, num_logits)
    return Detr(backbone, encoder, decoder)
