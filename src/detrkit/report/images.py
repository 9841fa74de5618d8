"""What needs the images and the model: worst and best images, attention, and what queries are used for."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.transforms import unchanged
from detrkit.detectors.detector import Detector
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.evaluation.by_image import WorstAndBest, worst_and_best
from detrkit.evaluation.judged import Judged
from detrkit.inference.load import load
from detrkit.inference.usage import query_usage
from detrkit.report.content import (
    Block,
    Drawing,
    Drawings,
    Heading,
    Missing,
    Picture,
    Pictures,
    Section,
    Text,
)
from detrkit.report.document import PICTURED, without_pictures
from detrkit.report.drawing import drawn
from detrkit.report.evidence import Evidence
from detrkit.report.pictures import attention_pictures, encoder_attention_pictures, truth_and_found
from detrkit.report.usage_figure import usage_figure

SHOWN, WATCHED = 6, 2
"""How many images are shown of the worst and of the best, and how many have attention maps."""

_COUNTED = 50
"""About how many images the queries are counted in."""

_WIDTH, _QUALITY = 900, 80
"""Of the pictures in the page: pixels at most, and JPEG's quality."""


def pictured_sections(evidence: Evidence) -> list[Section]:
    """The three sections, each with its pictures or why there are none."""
    judged = evidence.judged
    if judged is None:
        return without_pictures(f"The detections could not be looked at: {evidence.why}")
    try:
        shown = worst_and_best(judged, SHOWN)
        images = _images(judged, shown)
    except (DetrkitError, OSError) as error:
        return without_pictures(f"The images cannot be shown: {error}")
    model = evidence.record.folder / "model.safetensors"
    try:
        detector = load(model)
    except DetrkitError as error:
        lacking = [Missing(f"The model cannot be asked: {error}")]
        return [_section("images", images), _section("attention", lacking), _section("queries", lacking)]
    watched = [*shown.best[:WATCHED], *shown.worst[: max(0, WATCHED - len(shown.best))]]
    return [
        _section("images", images),
        _section("attention", _attention(detector, judged.catalog, watched)),
        _section("queries", _queries(detector, judged.catalog, shown.sure)),
    ]


def _section(name: str, blocks: Sequence[Block]) -> Section:
    return Section(name, PICTURED[name], blocks)


def _images(judged: Judged, shown: WorstAndBest) -> list[Block]:
    intro = (
        f"Ranked by F1, as a mean over the IoUs, of detections with a score of {shown.sure:.3f} or more. The "
        "truth is on the left, what was found on the right. Solid with a tick: found, and right. Dashed with "
        "a cross: missed, and false alarms."
    )
    blocks: list[Block] = [Text(intro)]
    for title, indices in (("Worst", shown.worst), ("Best", shown.best)):
        pictures = [
            _truth_and_found(judged, shown, index, f"{title.lower()}-{number}")
            for number, index in enumerate(indices, start=1)
        ]
        if pictures:
            blocks += [Heading(title), Pictures(pictures, wide=True)]
    return blocks


def _truth_and_found(judged: Judged, shown: WorstAndBest, index: int, name: str) -> Picture:
    catalog, found = judged.catalog, judged.found
    picture = truth_and_found(_read(catalog, index), catalog, index, judged, shown.sure)
    sure = (found.images == index) & (found.scores >= shown.sure)
    right = int((sure & (judged.matches[0] >= 0)).sum())
    claims = int((sure & judged.counted[0]).sum())
    objects = int((~catalog.crowds[catalog.rows(index)]).sum())
    caption = (
        f"{catalog.file_names[index]}: F1 {shown.scores[index]:.2f}; {objects} objects, "
        f"{claims} detections, {right} of them right at IoU {judged.ious[0]:.2f}"
    )
    return to_picture(name, picture, f"Truth and detections in {caption}.", caption)


def _attention(detector: Detector, catalog: Catalog, indices: Sequence[int]) -> list[Block]:
    if not isinstance(detector, DetrDetector):
        return [Missing("This detector has no queries that attend to an image.")]
    names = [category.name for category in detector.categories]
    blocks: list[Block] = [
        Text(
            "Where the queries of the best detections look in the last decoder layer, and where the token at "
            "the centre of a box looks in the last encoder layer: means of the heads, brightest where most."
        )
    ]
    for number, index in enumerate(indices):
        image, file_name = _read(catalog, index), str(catalog.file_names[index])
        parts = {
            "Decoder": attention_pictures(detector, image, names, 3),
            "Encoder": encoder_attention_pictures(detector, image, 3),
        }
        blocks.append(Heading(file_name))
        pictures = [
            to_picture(
                f"attention-{number}-{part.lower()}-{place}",
                tile,
                f"{part} attention over {file_name}, of detection {place} of the best.",
                f"{part}, detection {place}",
            )
            for part, tiles in parts.items()
            for place, tile in enumerate(tiles, start=1)
        ]
        blocks.append(Pictures(pictures) if pictures else Missing("Nothing was found in this image."))
    return blocks


def _queries(detector: Detector, catalog: Catalog, sure: float) -> list[Block]:
    if not isinstance(detector, DetrDetector):
        return [Missing("This detector has no queries.")]
    usage = query_usage(detector, catalog, threshold=sure, every=max(1, len(catalog) // _COUNTED))
    words = (
        f"In {usage.images:,} images, with a score of {usage.threshold:.3f} or more: of {len(usage.answers)} "
        f"queries {int(usage.dead.sum())} never answered, and {int(usage.dominating.sum())} did in more than "
        "half of the images."
    )
    if not usage.answers.any():
        return [
            Text(words),
            Missing("No query was sure of anything, so there is no map of where its boxes fall."),
        ]
    most = np.argsort(-usage.answers, kind="stable")[:5]
    told = ", ".join(f"query {query} in {usage.share[query]:.0%} of the images" for query in most.tolist())
    svg = drawn("usage", lambda: usage_figure(usage))
    text = f"Centres of the boxes of the most used queries. {words} Most used: {told}."
    return [Text(words), Drawings([Drawing("usage", "Where the boxes of queries fall", svg, text)])]


def _read(catalog: Catalog, index: int) -> UInt8[Tensor, "3 H W"]:
    return SplitDataset(catalog, unchanged)[0, index].image.as_subclass(Tensor)


def to_picture(name: str, image: Image.Image, alternative: str, caption: str) -> Picture:
    """The image as the page shows it: no wider than needed, as JPEG."""
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, max(1, round(image.height * _WIDTH / image.width))))
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Picture(name, file.getvalue(), image.width, image.height, alternative, caption)
