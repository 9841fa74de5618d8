"""DETR (Carion et al. 2020, "End-to-End Object Detection with Transformers", arXiv 2005.12872)."""

from typing import assert_never

from torch import nn

from detrkit.models.backbone import Backbone
from detrkit.models.contracts import Decoder
from detrkit.models.decoders.anchor import AnchorDecoder
from detrkit.models.decoders.conditional import ConditionalDecoder
from detrkit.models.decoders.plain import PlainDecoder
from detrkit.models.encoder import Encoder
from detrkit.models.heads import Heads
from detrkit.scoring import Scoring
from detrkit.settings.model import (
    AnchorDecoderSettings,
    ConditionalDecoderSettings,
    DetrSettings,
    PlainDecoderSettings,
)
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


def build_detr(settings: DetrSettings, scoring: Scoring, num_classes: int) -> Detr:
    """The network that the settings describe, with its paper's random initial weights, backbone included."""
    backbone = Backbone(settings.backbone)
    encoder = Encoder(settings.encoder, settings.transformer, backbone.out_channels)
    return Detr(backbone, encoder, _build_decoder(settings, scoring, num_classes))


def _build_decoder(settings: DetrSettings, scoring: Scoring, num_classes: int) -> Decoder:
    transformer = settings.transformer
    heads = Heads(transformer.width, scoring.class_head(transformer.width, num_classes))
    match settings.decoder:
        case PlainDecoderSettings() as decoder:
            return PlainDecoder(decoder, transformer, heads)
        case ConditionalDecoderSettings() as decoder:
            return ConditionalDecoder(decoder, transformer, heads)
        case AnchorDecoderSettings() as decoder:
            return AnchorDecoder(decoder, transformer, heads, num_classes)
        case other:
            assert_never(other)
