"""What the parts of the network hand to each other, and what a decoder is."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from detrkit.structures import DetrOutput, Objects


class FeatureMap(NamedTuple):
    """One level of the backbone's features; a cell is valid where its image is, not its padding.

    ``valid`` is None where all of them are.
    """

    values: Float[Tensor, "B channels h w"]
    valid: Bool[Tensor, "B h w"] | None = None


class Memory(NamedTuple):
    """What the decoder looks at: all cells of all levels on one axis, and where they lie.

    Without padding, ``valid`` is None, and one ``position`` serves all images.
    """

    tokens: Float[Tensor, "B S D"]
    position: Float[Tensor, "#B S D"]
    valid: Bool[Tensor, "B S"] | None = None

    @property
    def allowed(self) -> Bool[Tensor, "B 1 S"] | None:
        """Which tokens a query may look at; None where it may look at all."""
        return None if self.valid is None else self.valid[:, None]


@runtime_checkable
class Decoder(Protocol):
    """Turns a memory into one answer per query and layer. It owns its queries and its heads."""

    num_queries: int

    def __call__(self, memory: Memory, objects: list[Objects] | None = None) -> DetrOutput:
        """The answers of all layers. ``objects`` are the truth in training, for decoders that use it."""
        ...
