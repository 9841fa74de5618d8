"""The network: backbone, transformer and decoder. Defaults are DETR's (Carion et al. 2020, section 4)."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from detrkit.settings.section import Section

Dropout = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["frozen", "group", "batch"]


def _norm_for(given: dict[str, Any]) -> Norm:
    return "group" if given.get("weights") == "none" else "frozen"


def _frozen_stages_for(given: dict[str, Any]) -> int:
    return 0 if given.get("weights") == "none" else 2


class BackboneSettings(Section):
    """The convolutional network that turns an image into a feature map."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    """Which ResNet."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's), `none` (random), or a file with a ResNet's weights."""
    norm: Norm = Field(default_factory=_norm_for)
    """`frozen` BatchNorm, `group` (GroupNorm of 32), or `batch`: BatchNorm with the statistics of the
    batch, which depend on its size and padding. Unless set: `group` if `weights` is `none`, else `frozen`."""
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = Field(default_factory=_frozen_stages_for)
    """How many stages are not trained: 1 is the stem, 2 the stem and layer1, up to 5, the whole
    backbone. Unless set: 0 if `weights` is `none`, else 2."""
    dilation: bool = False
    """Keep the last stage at stride 16 by dilating it (DC5): finer features at twice the cost."""

    @model_validator(mode="after")
    def _check(self) -> "BackboneSettings":
        if self.dilation and self.name in ("resnet18", "resnet34"):
            raise ValueError(
                f"dilation is true, but {self.name} cannot be dilated; take resnet50 or resnet101"
            )
        if self.norm == "group" and self.weights != "none":
            raise ValueError(
                f"norm is 'group', but pretrained weights ({self.weights}) carry BatchNorm; "
                "take norm 'frozen' or 'batch', or weights 'none'"
            )
        return self


class TransformerSettings(Section):
    """What encoder and decoder layers have in common."""

    width: PositiveInt = 256
    """Size of a token (`D`)."""
    heads: PositiveInt = 8
    """Attention heads."""
    feedforward: PositiveInt = 2048
    """Hidden size of the feed-forward networks."""
    dropout: Dropout = 0.1
    """Dropout of attention weights, residual branches and feed-forward networks."""
    pre_norm: bool = False
    """Normalise before each residual branch instead of after the sum."""

    @model_validator(mode="after")
    def _check(self) -> "TransformerSettings":
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width is {self.width}, but must be divisible by 4 and by heads ({self.heads})")
        return self


class EncoderSettings(Section):
    """Self-attention over the tokens of the feature map."""

    layers: Annotated[int, Field(ge=0)] = 6
    """Number of layers; 0 hands the projected features to the decoder."""
    position: Literal["sine", "learned"] = "sine"
    """How a token knows its place: fixed sines and cosines, or a learned table of 50 rows and columns."""


class PlainDecoderSettings(Section):
    """DETR's decoder: learned object queries without a reference."""

    kind: Literal["plain"] = "plain"
    """Which decoder."""
    layers: PositiveInt = 6
    """Number of layers (`L`), each of which predicts."""
    queries: PositiveInt = 100
    """Number of object queries (`Q`): the most objects that can be found in one image."""


DecoderSettings = PlainDecoderSettings
"""Tagged by `kind`."""


class ModelSettings(Section):
    """The whole network."""

    backbone: BackboneSettings = BackboneSettings()
    transformer: TransformerSettings = TransformerSettings()
    encoder: EncoderSettings = EncoderSettings()
    decoder: DecoderSettings = PlainDecoderSettings()
