"""Any image file as 8-bit RGB, turned the way its dataset means it.

Cameras store a picture as the sensor saw it and note in EXIF how to turn it. Viewers turn it; the tools
that COCO was annotated and is read with do not. So a dataset's stated size decides, and without one the
picture is turned as a viewer would.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from detrkit.data.plausible import require_plausible
from detrkit.data.suffixes import FORMATS
from detrkit.errors import DetrkitError

_QUARTER_TURNS = (5, 6, 7, 8)
_ORIENTATION = 0x0112


def read_image(path: Path, expected: tuple[int, int] | None = None) -> UInt8[Tensor, "3 H W"]:
    """The RGB pixels of an image file; transparency is dropped, and 16-bit grey is scaled to 8 bits.

    Args:
        path: A file of one of the ``FORMATS``.
        expected: (height, width) stated by the dataset. The stored pixels are taken as they are if they
            have this size, and turned by the EXIF orientation if that gives it.

    Raises:
        DetrkitError: The file is missing, damaged or too large, or has neither way the expected size.
    """
    pixels, _ = read_reduced_image(path, expected, 1)
    return pixels


def read_reduced_image(
    path: Path, expected: tuple[int, int] | None, reduction: int, content: bytes | None = None
) -> tuple[UInt8[Tensor, "3 h w"], int]:
    """What ``read_image`` returns, of a JPEG ``reduction`` (1, 2, 4, 8) times smaller, and by how much it is.

    A JPEG holds the frequencies of 8 x 8 pixels at a time: without the higher ones, fewer pixels have to be
    computed. A pixel is then about the mean of ``reduction x reduction``, and the last of a row or column
    may lie partly outside the image. With ``content``, the bytes of an image file, ``path`` only names it.
    """
    try:
        if content is None:
            require_plausible(path, expected)
        with Image.open(path if content is None else BytesIO(content), formats=FORMATS) as image:
            turned = _is_turned(image, path, expected)
            reduced_by = _reduce(image, reduction)
            upright = ImageOps.exif_transpose(image) if turned else image
            return pil_to_tensor(_to_rgb(upright, path)), reduced_by
    except FileNotFoundError:
        raise DetrkitError(f"the image {path} does not exist: restore it or leave it out.") from None
    except DetrkitError:
        raise
    except Exception as error:  # noqa: BLE001 a damaged file may raise anything in Pillow's many readers
        # Pillow's own sentence would name the file once more
        reason = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise DetrkitError(
            f"the image {path} cannot be read: {reason}; restore it or leave it out."
        ) from None


def _is_turned(image: Image.Image, path: Path, expected: tuple[int, int] | None) -> bool:
    """Whether the stored pixels are to be turned as EXIF says."""
    stored = (image.height, image.width)
    if expected == stored:
        return False
    if expected is None:
        return image.getexif().get(_ORIENTATION) not in (None, 1)
    # last, since Pillow decodes all of a PNG to find it
    if expected == stored[::-1] and image.getexif().get(_ORIENTATION) in _QUARTER_TURNS:
        return True
    raise DetrkitError(
        f"the image {path} is {stored[1]} x {stored[0]} pixels, but its dataset states "
        f"{expected[1]} x {expected[0]} (width x height): correct the annotations or restore the file."
    )


def _reduce(image: Image.Image, reduction: int) -> int:
    """By how much the decoder has now been told to reduce the image: ``reduction``, or 1 if it cannot."""
    if reduction == 1:
        return 1
    width, height = image.size
    told = image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
    return 1 if told is None else round(width / told[1][2])


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    match image.mode:
        case "RGB":
            return image  # which convert would copy
        case "I" | "I;16" | "I;16B" | "I;16L" | "I;16N":
            return _from_16_bits(np.asarray(image), path)
        case "F":
            raise DetrkitError(f"the image {path} holds floating-point values: save it with 8 or 16 bits.")
        case "P":
            return image.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns of the transparency
        case _:
            return image.convert("RGB")


def _from_16_bits(values: np.ndarray, path: Path) -> Image.Image:
    """Grey values of 0..65535 as 0..255, rounded: Pillow's own conversion clips them at 255."""
    if values.min() < 0 or values.max() > 65535:
        raise DetrkitError(f"the image {path} holds values outside 0..65535: save it with 8 or 16 bits.")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
