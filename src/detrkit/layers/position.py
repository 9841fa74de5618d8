"""Where a token lies, as a vector to add to it (Carion et al. 2020, appendix A.4)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detrkit.errors import DetrkitError


def sine_code(
    angles: Float[Tensor, "*N"], width: int, temperature: float = 10_000.0
) -> Float[Tensor, "*N width"]:
    """Sines (even channels) and cosines (odd ones) of each angle at ``width / 2`` falling frequencies.

    The frequencies are ``temperature ** (-2 i / width)`` (Vaswani et al. 2017, section 3.5).
    """
    exponent = torch.arange(0, width, 2, dtype=angles.dtype, device=angles.device) / width
    phase = angles[..., None] / temperature**exponent
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(-2)


def box_code(
    places: Float[Tensor, "*N place"], width: int, temperature: float = 10_000.0
) -> Float[Tensor, "*N code"]:
    """Sines and cosines of points (x, y) or boxes (x, y, w, h) in fractions of the image.

    Every coordinate has ``width / 2`` channels, y before x, so that ``width`` of them say where a point is
    in the terms of ``SinePosition`` at a temperature of 10,000, which it is here in DAB-DETR as well, whose
    memory has 20. Meng et al. 2021 for points, Liu et al. 2022 for boxes.
    """
    x, y, *size = sine_code(2 * math.pi * places, width // 2, temperature).unbind(-2)
    return torch.cat([y, x, *size], dim=-1)


class SinePosition(nn.Module):
    """A fixed code of each cell's place in the image without its padding: half row, half column."""

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__()
        self.width = width
        self.temperature = temperature

    def forward(self, valid: Bool[Tensor, "B h w"], dtype: torch.dtype) -> Float[Tensor, "B h w D"]:
        """The code of every cell, its row and column scaled so that the last valid one is at 2 pi."""
        exact = torch.promote_types(dtype, torch.float32)
        # whole numbers, which a GPU adds up in any order to the same sum
        rows, columns = (valid.cumsum(axis, dtype=torch.int64).to(exact) for axis in (1, 2))
        rows = rows / (rows[:, -1:, :] + 1e-6) * (2 * math.pi)
        columns = columns / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
        half = self.width // 2
        codes = [sine_code(angles, half, self.temperature) for angles in (rows, columns)]
        return torch.cat(codes, dim=-1).to(dtype)

    def everywhere(self, values: Float[Tensor, "B channels h w"]) -> Float[Tensor, "1 h w D"]:
        """The code of every cell of a feature map without padding, remembered for the next of its size."""
        size, dtype, device = tuple(values.shape[-2:]), values.dtype, values.device
        # a tensor that is traced has no numbers to remember, only promises of them
        if torch.compiler.is_compiling() or type(values) is not Tensor:
            return self(_no_padding(size, device), dtype)
        return _sine_position(self.width, self.temperature, size, dtype, device)


class LearnedPosition(nn.Module):
    """A learned code of each cell's place in the feature map: half column, half row."""

    size = 50

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(self.size, width // 2))
        self.columns = nn.Parameter(torch.rand(self.size, width // 2))

    def forward(self, valid: Bool[Tensor, "B h w"], dtype: torch.dtype) -> Float[Tensor, "B h w D"]:
        """The code of every cell; DetrkitError where the map is larger than the table."""
        batch, height, width = valid.shape
        if max(height, width) > self.size:
            raise DetrkitError(
                f"the feature map is {height} x {width}, beyond the {self.size} x {self.size} of learned "
                "positions: lower data.max_size or take model.encoder.position sine."
            )
        columns = self.columns[None, :width].expand(height, -1, -1)
        rows = self.rows[:height, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).to(dtype).expand(batch, -1, -1, -1)

    def everywhere(self, values: Float[Tensor, "B channels h w"]) -> Float[Tensor, "1 h w D"]:
        """The code of every cell of a feature map without padding."""
        return self(_no_padding(values.shape[-2:], values.device), values.dtype)


@lru_cache(maxsize=32)
def _sine_position(
    width: int, temperature: float, size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 h w D"]:
    # whoever asks first may be in inference mode, whose tensors training cannot use
    with torch.inference_mode(False):
        return SinePosition(width, temperature)(_no_padding(size, device), dtype)


def _no_padding(size: Sequence[int], device: torch.device) -> Bool[Tensor, "1 h w"]:
    return torch.ones(1, *size, dtype=torch.bool, device=device)
