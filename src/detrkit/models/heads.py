"""From a query's hidden state to its class and box (Carion et al. 2020, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Heads(nn.Module):
    """Class logits and boxes of every query, computed in float32 at least, whatever the autocast.

    One formula serves every decoder: ``boxes = (box_head(hidden) + reference).sigmoid()``. A reference
    is where the decoder already believes the box to be, before the sigmoid: 0 for DETR.
    """

    def __init__(self, width: int, classes: nn.Linear) -> None:
        super().__init__()
        self.classes = classes
        self.boxes = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
        )

    def forward(
        self, hidden: Float[Tensor, "*L B Q D"], reference: Float[Tensor, "*#L B Q 4"] | float = 0.0
    ) -> tuple[Float[Tensor, "*L B Q K"], Float[Tensor, "*L B Q 4"]]:
        """(logits, boxes): boxes as ``cxcywh`` fractions of the image."""
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.classes(hidden.to(self.classes.weight.dtype))
        return logits, (self.offset(hidden) + reference).sigmoid()

    def offset(self, hidden: Float[Tensor, "*L B Q D"]) -> Float[Tensor, "*L B Q 4"]:
        """How far the box is from the reference, before the sigmoid."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.boxes(hidden.to(self.classes.weight.dtype))

    def start_at_reference(self) -> None:
        """Make every box the reference itself until training moves it."""
        for parameter in self.boxes[-1].parameters():
            nn.init.zeros_(parameter)
