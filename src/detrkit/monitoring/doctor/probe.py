"""A few images through the kept model, on the way that evaluation takes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from detrkit.catalog import Catalog
from detrkit.data.dataset import SplitDataset
from detrkit.data.loader import evaluation_batches
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detr import DetrDetector
from detrkit.inference.detect import detect
from detrkit.inference.noted import noted
from detrkit.monitoring.doctor.facts import Probe, Terms
from detrkit.objective.criterion import count_totals
from detrkit.structures import Batch, DetrOutput, Objects

IMAGES = 64
"""How many images of a split are looked at: with 5 objects each, shares are known to within about 3 %."""

_BATCH = 8


def probe_of(detector: DetrDetector, train: Catalog, validation: Catalog) -> Probe:
    """What the detector does with evenly drawn images of both splits.

    Raises:
        DetrkitError: An image cannot be read, or an answer is not finite.
    """
    sides = (_look(detector, train), _look(detector, validation))
    val = sides[1]
    return Probe(
        images=(sides[0].images, val.images),
        terms=(sides[0].terms, val.terms),
        pixels=(sides[0].pixels, val.pixels),
        objects=(sides[0].objects, val.objects),
        sure=(sides[0].sure.mean().item() * sides[0].queries, val.sure.mean().item() * val.queries),
        usage=val.sure.mean(0).tolist(),
        spread=val.spread,
    )


class _Side(NamedTuple):
    images: int
    queries: int
    terms: Terms
    pixels: tuple[float, float]
    objects: float
    sure: Tensor
    """[images, Q], 1 where a query is sure."""
    spread: float | None


def _look(detector: DetrDetector, catalog: Catalog) -> _Side:
    outputs, objects, pixels = [], [], []
    for batch, output, given in _answers(detector, catalog):
        outputs.append(output)
        device = output.logits.device
        objects += [Objects(one.boxes.to(device), one.labels.to(device)) for one in batch.objects]
        pixels.append(given.double().flatten(1))
    answer = DetrOutput(
        torch.cat([output.logits for output in outputs], dim=1).float(),
        torch.cat([output.boxes for output in outputs], dim=1).float(),
    )
    totals = count_totals(objects, detector.max_objects)
    with torch.inference_mode():
        report = detector.criterion(answer, objects, totals)
    values = torch.cat([image.flatten() for image in pixels])
    true = torch.cat([one.boxes for one in objects])
    return _Side(
        images=len(objects),
        queries=answer.logits.shape[2],
        terms={name: term.tolist() for name, term in report.terms.items()},
        pixels=(values.mean().item(), values.std().item()),
        objects=totals.boxes / max(totals.images, 1),
        sure=detector.criterion.scoring.finds(answer.logits[-1]).double().cpu(),
        spread=_spread(answer.boxes[-1], true),
    )


def _answers(detector: DetrDetector, catalog: Catalog) -> Iterator[tuple[Batch, DetrOutput, Tensor]]:
    """Batches of evenly drawn images with objects, what the network answers, and the pixels it was given."""
    dataset = SplitDataset(catalog, evaluation_transform(detector.image_size))
    world = max(1, len(catalog) // IMAGES)
    for batch in evaluation_batches(dataset, batch_size=_BATCH, workers=0, world=world):
        with noted([detector.network]) as calls:
            detect(detector, batch.images, batch.original_sizes, "fp32")
        yield batch, calls[0].answer, calls[0].inputs[0].pixels


def _spread(boxes: Float[Tensor, "B Q 4"], true: Float[Tensor, "N 4"]) -> float | None:
    """How far the centre of a query's box moves over images, relative to how far objects lie apart."""
    if len(boxes) < 2 or len(true) < 2:
        return None
    moved, apart = boxes[..., :2].std(0).mean().item(), true[:, :2].std(0).mean().item()
    return moved / apart if apart else None
