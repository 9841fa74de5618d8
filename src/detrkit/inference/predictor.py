"""A detector for anybody's images."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from detrkit.data.collate import pad
from detrkit.data.images import SUFFIXES, read_image
from detrkit.data.transforms import evaluation_transform
from detrkit.detectors.detector import Detector
from detrkit.errors import DetrkitError
from detrkit.inference.detect import detect
from detrkit.inference.precision import Precision
from detrkit.structures import Detections

Picture = str | Path | Image.Image | UInt8[Tensor, "3 _ _"]
"""A file, which is turned as its EXIF orientation says, or pixels, which are taken as they are."""


class Predictor:
    """Finds objects in images: ``Predictor(detector)(["a.jpg"])``."""

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
        self.detector = detector
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
        firsts = range(0, len(images), self.batch_size)
        return [found for first in firsts for found in self._detect(images[first : first + self.batch_size])]

    def _detect(self, images: Sequence[Picture]) -> list[Detections]:
        pixels = [_pixels(image) for image in images]
        sizes = [(image.shape[-2], image.shape[-1]) for image in pixels]
        batch = pad([self._resize(image) for image in pixels])
        return [self._sure(found) for found in detect(self.detector, batch, sizes, self.precision)]

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
