"""Pictures of the report: where a DETR looks in an image, and what was found beside what is there."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from detrkit.catalog import Catalog
from detrkit.detectors.detr import DetrDetector
from detrkit.drawing import Colour, label_colour
from detrkit.evaluation.judged import Judged
from detrkit.inference.attention import Maps, Watched, cross_attention, encoder_attention, watch
from detrkit.report.canvas import Box, Canvas, fit

TILE = 320
"""The longer side of a tile, in pixels."""

_GAP = 8

HIT: Colour = (86, 180, 233)
WRONG: Colour = (230, 130, 30)
CROWD: Colour = (190, 190, 190)


def attention_pictures(
    detector: DetrDetector, image: UInt8[Tensor, "3 H W"], names: Sequence[str], num: int = 6
) -> list[Image.Image]:
    """A tile for each of the best detections: where its query looks in the last decoder layer, and its box.

    It is the mean of the heads. The brightest cell of a tile is the one looked at most. Detections are each
    query's best, of at least half of the highest score, and at most ``num``.
    """
    watched = watch(detector, image)
    best = _best(watched, num)
    boxes, scores, labels = (column[best] for column in watched.detections)
    maps = cross_attention(watched, watched.queries[best].tolist())
    tiles = []
    for number, (box, score, label) in enumerate(
        zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ):
        canvas, across, down = _heated(image, maps, number)
        placed = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        canvas.box(placed, label_colour(label))
        canvas.caption(placed, f"{names[label]} {score:.2f}", label_colour(label))
        tiles.append(canvas.picture)
    return tiles


def encoder_attention_pictures(
    detector: DetrDetector,
    image: UInt8[Tensor, "3 H W"],
    num: int = 4,
    points: Sequence[tuple[float, float]] | None = None,
) -> list[Image.Image]:
    """A tile for each point: where its token looks in the last encoder layer. None without an encoder layer.

    Points are (x, y) in fractions of the image; unless given, the centres of the best detections.
    """
    watched = watch(detector, image)
    if not watched.encoder:
        return []
    points = _centres(watched, image, num) if points is None else points
    maps = encoder_attention(watched, points)
    tiles = []
    for number, (x, y) in enumerate(points):
        canvas, _, _ = _heated(image, maps, number)
        canvas.cross(x * canvas.picture.width, y * canvas.picture.height, (255, 255, 255))
        tiles.append(canvas.picture)
    return tiles


def truth_and_found(
    image: UInt8[Tensor, "3 H W"], catalog: Catalog, index: int, judged: Judged, sure: float, iou: int = 0
) -> Image.Image:
    """The truth of image number ``index`` on the left, and what was found in it on the right.

    Found are the detections that score at least ``sure``, judged at ``judged.ious[iou]``. Solid lines and a
    tick are objects found and detections that are right; dashed lines and a cross are objects missed and
    false alarms. Grey dots are crowds, and what is not counted.
    """
    left, right = (Canvas(fit(image, TILE)[0]) for _ in range(2))
    _, across, down = fit(image, TILE)
    names = [category.name for category in catalog.categories]
    found = judged.found
    shown = np.flatnonzero((found.images == index) & (found.scores >= sure))
    matches = judged.matches[iou, shown]
    rows = np.arange(len(catalog.boxes))[catalog.rows(index)]
    rows = rows[np.argsort(-catalog.areas[rows], kind="stable")]
    for row in rows.tolist():
        known = "crowd" if catalog.crowds[row] else "right" if row in matches else "wrong"
        _mark(left, _scaled(catalog.boxes[row], across, down), names[catalog.labels[row]], known)
    for place, match in reversed(list(zip(shown.tolist(), matches.tolist(), strict=True))):
        known = "right" if match >= 0 else "wrong" if judged.counted[iou, place] else "crowd"
        text = f"{names[found.labels[place]]} {found.scores[place]:.2f}"
        _mark(right, _scaled(found.boxes[place], across, down), text, known)
    objects, hits = int((~catalog.crowds[rows]).sum()), int((matches >= 0).sum())
    wrong = int((judged.counted[iou, shown] & (matches < 0)).sum())
    return _beside(
        left.headed(f"truth: {objects}, missed: {objects - hits}"),
        right.headed(f"found: {hits}, false alarms: {wrong}"),
    )


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + _GAP + right.width, left.height), (255, 255, 255))
    both.paste(left, (0, 0))
    both.paste(right, (left.width + _GAP, 0))
    return both


def heat_of(maps: Maps, number: int, size: tuple[int, int]) -> Float[Tensor, "height width"]:
    """The mean over heads of all levels' weights per area, 1 at the highest."""
    heat = torch.zeros(size)
    for level in maps:
        mean = level[number].mean(0)
        density = mean * mean.numel()  # a cell of a coarse level spreads its weight over more pixels
        smooth = F.interpolate(density[None, None], size=size, mode="bicubic", align_corners=False)
        heat += smooth[0, 0].clamp(min=0)
    return heat / heat.max().clamp(min=1e-9)


def _mark(canvas: Canvas, box: Box, text: str, known: str) -> None:
    sign, colour = {"right": ("✓", HIT), "wrong": ("✗", WRONG), "crowd": ("–", CROWD)}[known]
    canvas.box(box, colour, dashed=known != "right")
    canvas.caption(box, f"{sign} {text}", colour)


def _scaled(box: Float[np.ndarray, "4"], across: float, down: float) -> Box:
    left, top, right, bottom = box.tolist()
    return left * across, top * down, right * across, bottom * down


def _heated(image: UInt8[Tensor, "3 H W"], maps: Maps, number: int) -> tuple[Canvas, float, float]:
    """The image in grey, with the attention of one query or point glowing on it."""
    picture, across, down = fit(image, TILE)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    heat = heat_of(maps, number, (picture.height, picture.width)).numpy()
    glow = matplotlib.colormaps["inferno"](heat)[..., :3].astype(np.float32)
    cover = 0.85 * np.clip(heat, 0, 1)[..., None] ** 0.7
    mixed = (0.15 + 0.6 * grey) * (1 - cover) + glow * cover
    return Canvas(Image.fromarray((255 * mixed.clip(0, 1)).round().astype(np.uint8))), across, down


def _best(watched: Watched, num: int) -> Int[Tensor, " best"]:
    """The first detection of every query, if it scores at least half of what the best does."""
    scores = watched.detections.scores
    _, first = np.unique(watched.queries.numpy(), return_index=True)
    places = torch.from_numpy(np.sort(first))
    return places[scores[places] >= scores.amax() / 2][:num] if len(scores) else places


def _centres(watched: Watched, image: UInt8[Tensor, "3 H W"], num: int) -> list[tuple[float, float]]:
    height, width = image.shape[-2:]
    boxes = watched.detections.boxes[_best(watched, num)]
    x, y = (boxes[:, :2] + boxes[:, 2:]).div(2).unbind(-1)
    columns = (x / width).clamp(0, 1).tolist(), (y / height).clamp(0, 1).tolist()
    return list(zip(*columns, strict=True))
