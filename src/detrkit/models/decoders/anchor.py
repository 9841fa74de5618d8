"""DAB-DETR's decoder (Liu et al. 2022, "DAB-DETR: Dynamic Anchor Boxes are Better Queries").

A query is a box, which every layer moves. In training there may be further queries that the answer does
not need: other groups (Chen et al. 2022, "Group DETR") and denoising ones.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detrkit.layers.feedforward import perceptron
from detrkit.layers.position import box_code
from detrkit.models.contracts import Memory
from detrkit.models.decoders.conditional import ConditionalDecoderLayer, consult_once, start_locally
from detrkit.models.decoders.denoising import Denoising, NoisyObjects
from detrkit.models.heads import Heads
from detrkit.settings.model import AnchorDecoderSettings, TransformerSettings
from detrkit.structures import DetrOutput, Groups, Objects


class AnchorDecoder(nn.Module):
    """Queries that start as learned boxes (anchors, as logits of ``cxcywh``) and end as the objects'.

    Every layer looks around the anchor, as wide and as high as it is, and moves it. The gradient of a
    layer's answer reaches the layer before through its anchor, but no further.
    """

    def __init__(
        self,
        settings: AnchorDecoderSettings,
        transformer: TransformerSettings,
        heads: Heads,
        num_classes: int,
    ) -> None:
        super().__init__()
        width = transformer.width
        self.num_queries = settings.queries
        self.width = width
        self.temperature = settings.temperature
        self.anchors = nn.Parameter(torch.randn(settings.queries, 4))
        further = (settings.groups - 1) * settings.queries
        self.further_anchors = nn.Parameter(torch.randn(further, 4)) if further else None
        denoising = settings.denoising
        self.denoising = Denoising(denoising, num_classes, width) if denoising.groups else None
        self.place = perceptron(2 * width, width, width)
        self.modulate = perceptron(width, width, width)
        self.size = perceptron(width, width, 2)
        self.layers = nn.ModuleList(
            ConditionalDecoderLayer(transformer, first=number == 0) for number in range(settings.layers)
        )
        if settings.local_start:
            start_locally(self.layers)
        self.norm = nn.LayerNorm(width)
        self.heads = heads
        heads.start_at_reference()

    def forward(self, memory: Memory, objects: list[Objects] | None = None) -> DetrOutput:
        """The answers of all layers, and with the true ``objects`` those that only training needs."""
        anchors, noisy, allowed = self.anchors, None, None
        if objects is not None and self.further_anchors is not None:
            anchors = torch.cat([anchors, self.further_anchors])
        own = len(anchors)
        anchors = anchors.expand(memory.tokens.shape[0], -1, -1)
        hidden = anchors.new_zeros(*anchors.shape[:2], self.width)
        if objects is not None and self.denoising is not None:
            noisy = self.denoising(objects)
            hidden = torch.cat([hidden, noisy.hidden], dim=1)
            anchors = torch.cat([anchors, noisy.anchors], dim=1)
        if anchors.shape[1] > self.num_queries:
            allowed = self._allowed(own, noisy)
        return self._sort(own, noisy, *self._decode(hidden, anchors, memory, allowed))

    def freeze(self) -> None:
        """Let the first layer's queries see each other once for all images, of which none has objects."""
        code = box_code(self.anchors[None].sigmoid(), self.width, self.temperature)
        consult_once(self.layers[0], self.place(code))

    def _decode(
        self,
        hidden: Float[Tensor, "B T D"],
        anchors: Float[Tensor, "B T 4"],
        memory: Memory,
        allowed: Bool[Tensor, "#B T T"] | None,
    ) -> tuple[Float[Tensor, "L B T K"], Float[Tensor, "L B T 4"]]:
        seen = reference = anchors
        states, references = [], []
        for number, layer in enumerate(self.layers):
            if number:  # as in the original, the state that moves the anchor is not normalised once more
                reference = seen + self.heads.offset(hidden)
                seen = reference.detach()
            place, gaze = self._look(hidden, seen.sigmoid(), first=number == 0)
            hidden = layer(hidden, place, gaze, memory, allowed)
            states.append(self.norm(hidden))
            references.append(reference)
        return self.heads(torch.stack(states), torch.stack(references))

    def _look(
        self, hidden: Float[Tensor, "B T D"], anchors: Float[Tensor, "B T 4"], first: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """(place, gaze) of queries at these boxes: a box of half the height is looked at twice as sharply."""
        code = box_code(anchors, self.width, self.temperature)
        place = self.place(code)
        gaze = code[..., : self.width]
        if not first:
            gaze = gaze * self.modulate(hidden)
        sharpness = self.size(hidden).sigmoid() / anchors[..., 2:]
        # Sizes are width, height; the code of a point is its row, then its column.
        return place, gaze * sharpness.flip(-1).repeat_interleave(self.width // 2, dim=-1)

    def _allowed(self, own: int, noisy: NoisyObjects | None) -> Bool[Tensor, "#B T T"]:
        """A query sees its own group. Denoising ones see the first too, but nobody sees them: they know."""
        group = torch.arange(own, device=self.anchors.device) // self.num_queries
        real = torch.ones(1, own, dtype=torch.bool, device=group.device)
        if noisy is not None:
            group = torch.cat([group, -1 - noisy.group])
            real = torch.cat([real.expand(len(noisy.real), -1), noisy.real], dim=1)
        same = group[:, None] == group
        curious = (group[:, None] < 0) & (group == 0)
        itself = torch.eye(len(group), dtype=torch.bool, device=group.device)
        return (same | curious) & real[:, None] | itself

    def _sort(
        self,
        own: int,
        noisy: NoisyObjects | None,
        logits: Float[Tensor, "L B T K"],
        boxes: Float[Tensor, "L B T 4"],
    ) -> DetrOutput:
        """The answers of the first queries, of the further groups, and of the denoising queries."""
        first, further, rest = (
            [part[:, :, start:end] for part in (logits, boxes)]
            for start, end in ((0, self.num_queries), (self.num_queries, own), (own, None))
        )
        groups = [part.unflatten(2, (-1, self.num_queries)).transpose(1, 2) for part in further]
        return DetrOutput(
            *first,
            groups=Groups(*groups) if own > self.num_queries else None,
            denoised=noisy.read(*rest) if noisy is not None else None,
        )
