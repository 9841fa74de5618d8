"""A detector for anybody's images."""

from collections.abc import Generator, Sequence
from contextlib import closing
from glob import glob
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from detrkit.data.collate import pad
from detrkit.data.images import read_image
from detrkit.data.suffixes import SUFFIXES
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.ahead import made_ahead
from detrkit.inference.detect import detect
from detrkit.inference.frozen import frozen
from detrkit.inference.precision import Precision
from detrkit.structures import Detections, Images

Picture = str | Path | Image.Image | UInt8[Tensor, "3 _ _"]
"""A file, which is turned as its EXIF orientation says, or pixels, which are taken as they are."""


class _Prepared(NamedTuple):
    """Images as they are, and resized to what the detector expects."""

    pixels: list[UInt8[Tensor, "3 _ _"]]
    resized: Images


class Predictor:
    """Finds objects in images: ``Predictor(detector)(["a.jpg"])``.

    It copies the detector as it is when the predictor is made, ``frozen``: what becomes of the detector later
    changes no prediction.
    """

    def __init__(
        self,
        detector: Detector,
        threshold: float = 0.5,
        batch_size: int = 1,
        precision: Precision = "fp32",
    ) -> None:
        if not 0 <= threshold <= 1:
            raise DetrkitError(f"the threshold is {threshold}, but scores lie between 0 and 1.")
        if batch_size < 1:
            raise DetrkitError(f"the batch size is {batch_size}, but must be at least 1.")
        self.detector = frozen(detector, precision)
        self.threshold = threshold
        self.batch_size = batch_size
        self.precision: Precision = precision
        self._resize = evaluation_transform(detector.image_size)

    def __call__(self, images: Sequence[Picture]) -> list[Detections]:
        """What scores at least the threshold in each image, best first, in pixels of that image.

        Raises:
            DetrkitError: An image cannot be read.
        """
        if isinstance(images, str):
            raise TypeError(f"expected a list of images: pass ['{images}'].")
        return [found for _, found in self.each(images)]

    def each(self, images: Sequence[Picture]) -> Generator[tuple[UInt8[Tensor, "3 H W"], Detections]]:
        """The pixels of each image and what is found there, in order and as soon as it is known.

        While the network looks at one batch, a thread reads and resizes the next.

        Raises:
            DetrkitError: An image cannot be read.
        """
        firsts = range(0, len(images), self.batch_size)
        chosen = (images[first : first + self.batch_size] for first in firsts)
        with closing(made_ahead(self._prepare, chosen)) as batches:
            for pixels, resized in batches:
                sizes = [(image.shape[-2], image.shape[-1]) for image in pixels]
                answers = detect(self.detector, resized, sizes, self.precision)
                yield from zip(pixels, map(self._sure, answers), strict=True)

    def _prepare(self, images: Sequence[Picture]) -> _Prepared:
        pixels = [_pixels(image) for image in images]
        return _Prepared(pixels, pad([self._resize(image) for image in pixels]))

    def _sure(self, found: Detections) -> Detections:
        sure = found.scores >= self.threshold
        return Detections(found.boxes[sure], found.scores[sure], found.labels[sure])


def find_images(paths: Sequence[str]) -> list[Path]:
    """The image files that paths mean, each once and sorted.

    A path is a file of any suffix, a folder, which means the images directly inside it, or a pattern
    such as ``photos/**/*.jpg``.

    Raises:
        DetrkitError: A path means no image.
    """
    unique: dict[Path, Path] = {}
    for image in sorted(image for path in paths for image in _images_of(path)):
        unique.setdefault(image.resolve(), image)
    return list(unique.values())


def _images_of(path: str) -> list[Path]:
    if Path(path).is_file():
        return [Path(path)]
    # not Path.glob, which takes no absolute pattern
    inside = Path(path).iterdir() if Path(path).is_dir() else map(Path, glob(path, recursive=True))  # noqa: PTH207
    images = [file for file in inside if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not images:
        raise DetrkitError(
            f"{path} means no image: name a file, a folder with images directly inside it "
            f"({', '.join(SUFFIXES)}), or a pattern such as 'photos/*.jpg'."
        )
    return images


def _pixels(image: Picture) -> UInt8[Tensor, "3 H W"]:
    match image:
        case Tensor():
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise DetrkitError(
                    f"the image is a {image.dtype} tensor of shape {tuple(image.shape)}, "
                    "but must be torch.uint8 of shape (3, height, width)."
                )
            return image.cpu()
        case Image.Image():
            return pil_to_tensor(image.convert("RGB"))
        case _:
            return read_image(Path(image))
