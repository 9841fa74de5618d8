"""Images per second on one core, from files to padded and normalised batches, beside what others take.

Reads ``coco-mini`` from the folder that DETRKIT_SHARED names. Every round times all contenders one after
another on the same images, and ratios are medians over rounds of what the round itself measured, so that a
busy machine slows both sides of a ratio.
"""

import json
import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Row, Spread, parse, record
from PIL import Image
from torchvision.transforms import functional as pil

from detrkit.catalog import Catalog
from detrkit.data.collate import MEAN, STD, collate, to_network
from detrkit.data.dataset import SplitDataset
from detrkit.data.formats.coco import read_coco
from detrkit.data.formats.recognise import read_split
from detrkit.data.images import read_image
from detrkit.data.order import Order, grouped, shuffled
from detrkit.data.transforms import evaluation_transform, training_transform
from detrkit.data.views import resized_size
from detrkit.settings.data import DataSettings
from detrkit.structures import Batch, ImageSize

BATCH = 2
SETTINGS = DataSettings()
CPU = torch.device("cpu")

Contender = Callable[[list[int]], None]
"""Makes batches of the images with these indices, and forgets them."""


def measure(rounds: int = 9, images: int = 48) -> dict[str, Any]:
    """All figures as plain numbers: images per second, and milliseconds per image of every stage."""
    coco = Path(os.environ["DETRKIT_SHARED"]) / "coco-mini"
    train, val = read_split(coco, "train2017"), read_split(coco, "val2017")
    with one_core():
        return {
            "threads": 1,
            "batch": BATCH,
            "training": training(train, rounds, images),
            "evaluation": evaluation(val, rounds, images),
            "large_files": large_files(train, rounds),
            "padding": padding(train, epochs=max(1, 4 * rounds)),
        }


@contextmanager
def one_core() -> Iterator[None]:
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def interleaved(contenders: dict[str, Contender], indices: list[int], rounds: int) -> dict[str, list[float]]:
    """The seconds per image of each contender in each round, after a first that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run(indices)
            if number:
                seconds[name].append((time.perf_counter() - start) / len(indices))
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Images per second of each contender, and how many times faster than each detrkit is."""
    others = [name for name in seconds if name != "detrkit"]
    return {
        "per_second": {name: per_second(taken) for name, taken in seconds.items()},
        "times": {name: ratio(seconds[name], seconds["detrkit"]) for name in others},
    }


def per_second(seconds: list[float]) -> float:
    return round(1 / statistics.median(seconds), 1)


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times faster the second is: the median of the rounds' ratios, and their extremes."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "most": round(max(ratios), 2),
    }


def training(catalog: Catalog, rounds: int, images: int) -> dict[str, Any]:
    dataset = SplitDataset(catalog, training_transform(SETTINGS), seed=1)
    contenders = {
        "detrkit": lambda indices: run_detrkit(dataset, indices),
        "pil": lambda indices: run_pil(catalog, indices),
        "decode": lambda indices: run_decode(catalog, indices),
    }
    seconds = interleaved(contenders, spread(catalog, images), rounds)
    return summary(seconds) | {
        "stages_ms": stages(dataset, catalog, spread(catalog, images), rounds),
    }


def evaluation(catalog: Catalog, rounds: int, images: int) -> dict[str, Any]:
    import transformers
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    transformers.logging.set_verbosity_error()
    dataset = SplitDataset(catalog, evaluation_transform(ImageSize(800, 1333)))
    slow, default = DetrImageProcessorPil(), transformers.DetrImageProcessor()
    contenders = {
        "detrkit": lambda indices: run_detrkit(dataset, indices),
        "default": lambda indices: run_processor(default, catalog, indices),
        "slow": lambda indices: run_processor(slow, catalog, indices),
        "decode": lambda indices: run_decode(catalog, indices),
    }
    seconds = interleaved(contenders, spread(catalog, images), rounds)
    return summary(seconds) | {
        "stages_ms": stages(dataset, catalog, spread(catalog, images), rounds),
    }


def large_files(catalog: Catalog, rounds: int, images: int = 6, side: int = 4000) -> dict[str, Any]:
    """Training on JPEGs as cameras make them: photographs of coco-mini, enlarged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        enlarged = [enlarge(catalog.path(index), folder, index, side) for index in spread(catalog, images)]
        content = {"images": enlarged, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
        (folder / "large.json").write_text(json.dumps(content))
        large = read_coco(folder / "large.json", folder)
        whole = SETTINGS.model_copy(update={"reduced_decoding": False})
        reduced, full = (
            SplitDataset(large, training_transform(settings), seed=1) for settings in (SETTINGS, whole)
        )
        contenders = {
            "detrkit": lambda indices: run_detrkit(reduced, indices),
            "full": lambda indices: run_detrkit(full, indices),
            "pil": lambda indices: run_pil(large, indices),
        }
        seconds = interleaved(contenders, list(range(images)), rounds)
    return summary(seconds) | {"longer_side": side}


def enlarge(path: Path, folder: Path, index: int, side: int) -> dict[str, Any]:
    with Image.open(path) as image:
        scale = side / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
    return {"id": index, "file_name": f"{index}.jpg", "width": size[0], "height": size[1]}


def padding(catalog: Catalog, epochs: int) -> list[dict[str, Any]]:
    """The share of a batch's pixels that are padding, with and without groups by aspect ratio."""
    dataset = SplitDataset(catalog, training_transform(SETTINGS), seed=0)
    figures = []
    for batch in (2, 8, 16):
        plain = padded_share(dataset, shuffled(0, len(dataset)), batch, epochs)
        by_aspect = padded_share(dataset, grouped(0, dataset.aspects, batch), batch, epochs)
        figures.append(
            {
                "batch": batch,
                "shuffled": round(plain, 4),
                "grouped_by_aspect": round(by_aspect, 4),
                "fewer_pixels": round(1 - (1 - plain) / (1 - by_aspect), 4),
            }
        )
    return figures


def padded_share(dataset: SplitDataset, order: Order, batch: int, epochs: int) -> float:
    stream = [(epoch, int(index)) for epoch in range(epochs) for index in order(epoch)]
    seen = allocated = 0
    for first in range(0, len(stream) - batch + 1, batch):
        sizes = np.array([dataset.view(key).size for key in stream[first : first + batch]])
        seen += int(sizes.prod(axis=1).sum())
        allocated += int(sizes.max(axis=0).prod()) * batch
    return 1 - seen / allocated


def stages(dataset: SplitDataset, catalog: Catalog, indices: list[int], rounds: int) -> dict[str, float]:
    """Where the time goes, in milliseconds per image: each stage on what the one before it made."""
    samples = [dataset[0, index] for index in indices]
    pairs = [samples[first : first + BATCH] for first in range(0, len(samples), BATCH)]
    batches = [collate(pair) for pair in pairs]
    seconds = interleaved(
        {
            "decode": lambda _: run_decode(catalog, indices),
            "read": lambda _: consume(read_image(catalog.path(i), catalog.size(i)) for i in indices),
            "sample": lambda _: consume(dataset[0, index] for index in indices),
            "pad": lambda _: consume(collate(pair) for pair in pairs),
            "normalise": lambda _: consume(finish(batch) for batch in batches),
        },
        indices,
        rounds,
    )
    read, sample = statistics.median(seconds["read"]), statistics.median(seconds["sample"])
    decode = statistics.median(seconds["decode"])
    found = {
        "decode": decode,
        "to_tensor": read - decode,
        "cut_mirror_resize_and_boxes": sample - read,
        "pad": statistics.median(seconds["pad"]),
        "normalise": statistics.median(seconds["normalise"]),
    }
    return {name: round(value * 1e3, 3) for name, value in found.items()}


def spread(catalog: Catalog, images: int) -> list[int]:
    """So many indices, evenly over a split."""
    return [int(index) for index in np.linspace(0, len(catalog) - 1, images)]


def run_detrkit(dataset: SplitDataset, indices: list[int]) -> None:
    run_detrkit.epoch += 1  # a new view of every image in every round
    for first in range(0, len(indices), BATCH):
        samples = [dataset[run_detrkit.epoch, index] for index in indices[first : first + BATCH]]
        finish(collate(samples))


run_detrkit.epoch = 0


def finish(batch: Batch) -> None:
    to_network(batch.images, CPU, torch.float32)


def consume(values: Iterator[Any]) -> None:
    for _ in values:
        pass


def run_decode(catalog: Catalog, indices: list[int]) -> None:
    for index in indices:
        with Image.open(catalog.path(index)) as image:
            image.load()


def run_processor(processor: Any, catalog: Catalog, indices: list[int]) -> None:
    for first in range(0, len(indices), BATCH):
        images = [Image.open(catalog.path(i)).convert("RGB") for i in indices[first : first + BATCH]]
        processor(images, return_tensors="pt")


def run_pil(catalog: Catalog, indices: list[int]) -> None:
    """DETR's augmentation in the order and with the functions of the original code, on Pillow's images."""
    for first in range(0, len(indices), BATCH):
        pad_normalised([augment_pil(catalog, index) for index in indices[first : first + BATCH]])


def augment_pil(catalog: Catalog, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    image = Image.open(catalog.path(index)).convert("RGB")
    boxes = torch.from_numpy(catalog.boxes[catalog.rows(index)]).float()
    if torch.rand(()) < SETTINGS.flip:
        image = pil.hflip(image)
        boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor(
            [image.width, 0, image.width, 0]
        )
    if torch.rand(()) < SETTINGS.crop_probability:
        image, boxes = resize_pil(image, boxes, one_of(SETTINGS.crop_short_sides), None)
        image, boxes = crop_pil(image, boxes)
    image, boxes = resize_pil(image, boxes, one_of(SETTINGS.short_sides), SETTINGS.max_size)
    tensor = pil.normalize(pil.to_tensor(image), list(MEAN), list(STD))
    center, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return tensor, torch.cat([center, sides], dim=1) / torch.tensor([image.width, image.height] * 2)


def resize_pil(
    image: Image.Image, boxes: torch.Tensor, short_side: int, max_size: int | None
) -> tuple[Image.Image, torch.Tensor]:
    height, width = resized_size(image.height, image.width, short_side, max_size)
    scales = torch.tensor([width / image.width, height / image.height] * 2)
    return pil.resize(image, [height, width]), boxes * scales


def crop_pil(image: Image.Image, boxes: torch.Tensor) -> tuple[Image.Image, torch.Tensor]:
    low, high = SETTINGS.crop_sides
    width = between(min(low, image.width), min(high, image.width))
    height = between(min(low, image.height), min(high, image.height))
    top, left = between(0, image.height - height), between(0, image.width - width)
    boxes = (boxes - torch.tensor([left, top, left, top])).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
    return pil.crop(image, top, left, height, width), boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def pad_normalised(images: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    height = max(image.shape[1] for image, _ in images)
    width = max(image.shape[2] for image, _ in images)
    batch = torch.zeros(len(images), 3, height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for (image, _), place, hidden in zip(images, batch, mask, strict=True):
        place[:, : image.shape[1], : image.shape[2]].copy_(image)
        hidden[: image.shape[1], : image.shape[2]] = False
    return batch, mask


def between(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def one_of(values: tuple[int, ...]) -> int:
    return values[between(0, len(values) - 1)]


def main(options: Namespace) -> None:
    if "DETRKIT_SHARED" not in os.environ:
        print("skipped: DETRKIT_SHARED does not name the folder of real images")
        return
    found = measure(*(1, 2) if options.short else (options.repeats, 48))
    training, evaluation, large = found["training"], found["evaluation"], found["large_files"]
    rows = [
        row("training images, one core, against DETR's augmentation on PIL images", training, "pil", 2.5),
        row("evaluation images, one core, against transformers' PIL processor", evaluation, "slow", 4),
        row(
            "evaluation images, one core, against transformers' torchvision processor", evaluation, "default"
        ),
        row("training images of 4000 pixels, against the same augmentation on PIL images", large, "pil"),
    ]
    record(options, rows, **found)


def row(figure: str, found: dict[str, Any], peer: str, target: float | None = None) -> Row:
    times = found["times"][peer]
    decoding = found["per_second"].get("decode")
    share = "" if decoding is None else f"; decoding alone {decoding:.0f} images/s"
    return Row(
        f"{figure} (median, least, most)",
        Spread(times["median"], times["least"], times["most"]),
        target,
        ours=f"{found['per_second']['detrkit']:.0f} images/s{share}",
        peer=f"{found['per_second'][peer]:.0f} images/s",
    )


if __name__ == "__main__":
    main(parse(__doc__, repeats=9))
