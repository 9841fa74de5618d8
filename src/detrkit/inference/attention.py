"""Where a DETR looks in one image: which cells its queries and its encoder's tokens attend to.

The network runs once as it is, with hooks that note what its layers were given. The weights are found from
that afterwards, for the chosen queries or points alone (``layers.attention.attention_weights``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from detrkit.boxes import cxcywh_to_xyxy
from detrkit.data.collate import pad
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.inference.detect import detect
from detrkit.inference.noted import Noted, noted
from detrkit.inference.precision import Precision, autocast
from detrkit.layers.attention import attention_weights
from detrkit.models.contracts import FeatureMap
from detrkit.structures import Detections, DetrOutput

Maps = list[Float[Tensor, "N heads _ _"]]
"""Of N queries or points, how much each head looks at each of h x w cells; a tensor per level, finest first.

A map covers the whole image. Over all levels, a head's weights add up to 1.
"""


class Watched(NamedTuple):
    """One pass over an image.

    ``queries`` says which query each of the detections is from, and ``boxes`` what every query answered in
    the last layer (``xyxy``, pixels of the image). ``cross`` and ``encoder`` are the attention layers, first
    to last, and ``levels`` the (height, width) of each level's map.
    """

    detections: Detections
    queries: Int[Tensor, " D"]
    boxes: Float[Tensor, "Q 4"]
    cross: list[Noted]
    encoder: list[Noted]
    levels: list[tuple[int, int]]
    precision: Precision


def watch(detector: DetrDetector, image: UInt8[Tensor, "3 H W"], precision: Precision = "fp32") -> Watched:
    """What the detector answers to an image, and what its attention layers were given for it.

    The detector is left as it was, without hooks, also where it fails.

    Raises:
        NotFiniteError: An answer is not finite.
    """
    network = detector.network
    height, width = image.shape[-2:]
    resized = pad([evaluation_transform(detector.image_size)(image)])
    with (
        torch.compiler.set_stance("force_eager"),  # hooks see nothing of what is compiled
        noted([network]) as outputs,
        noted([network.backbone]) as features,
        noted(_layers(network, "decoder.layers", "cross_attention")) as cross,
        noted(_layers(network, "encoder.layers", "attention")) as encoder,
    ):
        detections = detect(detector, resized, [(height, width)], precision)[0]
    output: DetrOutput = outputs[0].answer
    maps: list[FeatureMap] = features[0].answer
    scale = torch.tensor([width, height, width, height])
    return Watched(
        detections=detections,
        queries=detector.criterion.scoring.answer(output.logits[-1].float()).queries[0].cpu(),
        boxes=cxcywh_to_xyxy(output.boxes[-1, 0].float().cpu()) * scale,
        cross=cross,
        encoder=encoder,
        levels=[(level.values.shape[-2], level.values.shape[-1]) for level in maps],
        precision=precision,
    )


def cross_attention(watched: Watched, queries: Sequence[int], layer: int = -1) -> Maps:
    """Where these queries look in a decoder layer, the last unless told, on the CPU.

    Raises:
        DetrkitError: There is no such query or layer.
    """
    number = len(watched.boxes)
    wrong = [query for query in queries if not 0 <= query < number]
    if wrong:
        raise DetrkitError(f"there is no query {wrong[0]}: the decoder has {number}, counted from 0.")
    return _maps(watched, _layer(watched.cross, layer, "decoder"), list(queries))


def encoder_attention(
    watched: Watched, points: Sequence[tuple[float, float]], layer: int = -1, level: int = 0
) -> Maps:
    """Where the tokens at these points look in an encoder layer, the last unless told, on the CPU.

    Points are (x, y) in fractions of the image. ``level`` says of which level's map the tokens are: 0 is the
    finest.

    Raises:
        DetrkitError: A point lies outside the image, or there is no such layer or level.
    """
    if not -len(watched.levels) <= level < len(watched.levels):
        raise DetrkitError(f"there is no level {level}: the encoder has {len(watched.levels)}.")
    level %= len(watched.levels)
    height, width = watched.levels[level]
    before = sum(rows * columns for rows, columns in watched.levels[:level])
    tokens = []
    for x, y in points:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise DetrkitError(
                f"the point ({x}, {y}) lies outside the image: give x and y as fractions of it, 0 to 1."
            )
        row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
        tokens.append(before + row * width + column)
    return _maps(watched, _layer(watched.encoder, layer, "encoder"), tokens)


def _maps(watched: Watched, call: Noted, rows: list[int]) -> Maps:
    device = call.answer.device
    chosen = torch.tensor(rows, dtype=torch.int64, device=device)
    with torch.no_grad(), autocast(device.type, watched.precision):
        weights = attention_weights(*call, chosen)[0].cpu()
    cells = [height * width for height, width in watched.levels]
    return [
        part.unflatten(-1, size).transpose(0, 1)
        for part, size in zip(weights.split(cells, dim=-1), watched.levels, strict=True)
    ]


def _layer(layers: list[Noted], number: int, part: str) -> Noted:
    if not -len(layers) <= number < len(layers):
        raise DetrkitError(f"there is no layer {number}: the {part} has {len(layers)}, counted from 0.")
    return layers[number]


def _layers(network: nn.Module, stack: str, attention: str) -> list[nn.Module]:
    return [layer.get_submodule(attention) for layer in network.get_submodule(stack).children()]
