"""DETR's network: backbone, transformer and decoder. Defaults: Carion et al. 2020, section 4."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from detrkit.settings.section import Count, Section, kind_unless_given

Dropout = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["frozen", "group", "batch"]
Activation = Literal["relu", "prelu"]
Level = Literal["layer2", "layer3", "layer4"]


def _norm_for(given: dict[str, Any]) -> Norm:
    return "group" if given.get("weights") == "none" else "frozen"


def _frozen_stages_for(given: dict[str, Any]) -> int:
    return 0 if given.get("weights") == "none" else 2


class ResNetSettings(Section):
    """The convolutional network that turns an image into feature maps."""

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

    @model_validator(mode="after")
    def _check_norm(self) -> "ResNetSettings":
        if self.norm == "group" and self.weights != "none":
            raise ValueError(
                f"norm is 'group', but pretrained weights ({self.weights}) carry BatchNorm; "
                "take norm 'frozen' or 'batch', or weights 'none'"
            )
        return self


class BackboneSettings(ResNetSettings):
    """DETR's backbone: a ResNet, and what of it the encoder sees."""

    dilation: bool = False
    """Keep the last stage at stride 16 by dilating it (DC5): finer features at twice the cost."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = ("layer4",)
    """Which stages' features the encoder sees, from fine to coarse. Their strides are 8, 16 and 32. Stages
    after the last are left out, so that `["layer3"]` has finer features at a lower cost."""

    @model_validator(mode="after")
    def _check(self) -> "BackboneSettings":
        if self.dilation and self.name in ("resnet18", "resnet34"):
            raise ValueError(
                f"dilation is true, but {self.name} cannot be dilated; take resnet50 or resnet101"
            )
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels are {list(self.levels)}, but must go from fine to coarse, each once")
        if self.dilation and self.levels[-1] != "layer4":
            raise ValueError(
                f"dilation is true, but levels {list(self.levels)} leave out layer4, which it is for"
            )
        return self


class TransformerSettings(Section):
    """What encoder and decoder layers have in common."""

    width: Annotated[int, Field(ge=1, le=2**14)] = 256
    """Size of a token (`D`)."""
    heads: Count = 8
    """Attention heads."""
    feedforward: Annotated[int, Field(ge=1, le=2**17)] = 2048
    """Hidden size of the feed-forward networks."""
    dropout: Dropout = 0.1
    """Dropout of attention weights, residual branches and feed-forward networks."""
    pre_norm: bool = False
    """Normalise before each residual branch instead of after the sum."""
    activation: Activation = "relu"
    """Of the feed-forward networks: ReLU, or DAB-DETR's PReLU, whose slope below 0 is learned."""

    @model_validator(mode="after")
    def _check(self) -> "TransformerSettings":
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width is {self.width}, but must be divisible by 4 and by heads ({self.heads})")
        return self


class EncoderSettings(Section):
    """Self-attention over the tokens of the feature map."""

    layers: Annotated[int, Field(ge=0, le=100)] = 6
    """Number of layers; 0 hands the projected features to the decoder."""
    position: Literal["sine", "learned"] = "sine"
    """How a token knows its place: fixed sines and cosines, or a learned table of 50 rows and columns."""
    temperature: Annotated[float, Field(gt=1)] = 10_000.0
    """Ratio of the longest to the shortest wave of the sines: 20 in DAB-DETR, whose waves are all short."""
    modulate_position: bool = False
    """Scale the code of a token's place by what the token holds, before every layer, as in DAB-DETR."""


class _DecoderSettings(Section):
    layers: Annotated[int, Field(ge=1, le=100)] = 6
    """Number of layers (`L`), each of which predicts."""
    queries: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Number of object queries (`Q`): the most objects that can be found in one image."""


class PlainDecoderSettings(_DecoderSettings):
    """DETR's decoder: learned object queries without a reference."""

    kind: Literal["plain"] = "plain"
    """Which decoder: `plain` (DETR), `conditional` (Conditional DETR) or `anchor` (DAB-DETR, DN-DETR)."""


class _PlacedDecoderSettings(_DecoderSettings):
    temperature: Annotated[float, Field(gt=1)] = 10_000.0
    """Ratio of the longest to the shortest wave of the sines that say where a query looks. With the encoder's
    temperature, a query's place and a token's are said in the same terms."""
    local_start: bool = False
    """Start with one projection for where a query looks and where a token lies, so that with equal
    temperatures every query looks around its reference from the first step on. Off in the papers."""


class ConditionalDecoderSettings(_PlacedDecoderSettings):
    """Conditional DETR's decoder: every query looks around a point of its own (Meng et al. 2021)."""

    kind: Literal["conditional"] = "conditional"
    """Which decoder."""


class DenoisingSettings(Section):
    """Queries that start from true objects with noise and learn to undo it (Li et al. 2022).

    Defaults are DN-DETR's, but for `groups`, which is 5 there, and for the shape of the noise on boxes, which
    is DINO's (Zhang et al. 2022).
    """

    groups: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many noisy copies of an image's objects are trained on at once; 0 has no denoising."""
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Part of the labels that are drawn anew."""
    box_noise: NonNegativeFloat = 0.8
    """How far noise moves each side of a box at most, in halves of its width or height: 1 in DINO. 0.8
    reaches as far as DN-DETR's 0.4 of both centre and size."""
    negatives: bool = False
    """Add to each copy one with more noise, which is to be answered by 'no object' (DINO)."""


class AnchorDecoderSettings(_PlacedDecoderSettings):
    """DAB-DETR's decoder: a query is a box that every layer refines (Liu et al. 2022)."""

    kind: Literal["anchor"] = "anchor"
    """Which decoder."""
    groups: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many sets of queries are trained side by side, each matched on its own, of which one is kept for
    use: more objects find a query to teach (Group DETR). 1 has no further set."""
    denoising: DenoisingSettings = DenoisingSettings()


DecoderSettings = Annotated[
    PlainDecoderSettings | ConditionalDecoderSettings | AnchorDecoderSettings,
    Field(discriminator="kind"),
    kind_unless_given("plain"),
]


class DetrSettings(Section):
    """A DETR."""

    kind: Literal["detr"] = "detr"
    """Which detector: `detr`, or a classical one: `faster_rcnn`, `mask_rcnn`, `retinanet`, `fcos`, `ssd300`
    or `ssdlite320`."""
    backbone: BackboneSettings = BackboneSettings()
    transformer: TransformerSettings = TransformerSettings()
    encoder: EncoderSettings = EncoderSettings()
    decoder: DecoderSettings = PlainDecoderSettings()
