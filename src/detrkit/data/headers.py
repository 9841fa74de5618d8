"""What the header of an image file says, for which none of its pixels is decoded."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from detrkit.data.plausible import require_plausible
from detrkit.data.suffixes import FORMATS
from detrkit.errors import DetrkitError

_ORIENTATION = 0x0112
_HOLDERS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow finds an orientation; asking a PNG that has none of them would decode it."""


class Header(NamedTuple):
    """The size of the stored pixels, and how EXIF says that viewers turn them: 1 is not at all."""

    height: int
    width: int
    orientation: int

    @property
    def shown(self) -> tuple[int, int]:
        """(height, width) as a viewer shows the image."""
        quarter_turn = self.orientation >= 5
        return (self.width, self.height) if quarter_turn else (self.height, self.width)


def read_header(path: Path) -> Header:
    """The header of an image file; DetrkitError if it is missing or no image."""
    try:
        require_plausible(path)
        with Image.open(path, formats=FORMATS) as image:
            return Header(image.height, image.width, _orientation(image))
    except FileNotFoundError:
        raise DetrkitError(f"the image {path} does not exist: restore it or leave it out.") from None
    except Exception as error:  # noqa: BLE001 a damaged file may raise anything in Pillow's many readers
        reason = "its format is not known" if isinstance(error, UnidentifiedImageError) else error
        raise DetrkitError(
            f"the image {path} cannot be read: {reason}; restore it or leave it out."
        ) from None


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF" or not _HOLDERS & image.info.keys():
        return 1  # a TIFF is turned by Pillow itself, its size being that already
    stated = image.getexif().get(_ORIENTATION)
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1
