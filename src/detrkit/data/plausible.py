"""What cannot be meant: images of impossible lengths, told before they are opened, and numbers.

It stands apart from the reading of images, so that whoever looks at headers alone does without torch.
"""

from pathlib import Path

from PIL import Image

from detrkit.files import require_regular

LARGEST = 2**31
"""Pixels that no coordinate or side reaches; it keeps areas finite."""

_BYTES_PER_PIXEL = 64
"""Eight times what any format takes without compression: some keep layers, previews and films besides."""
_BYTES_BESIDES = 1 << 26
"""For what does not grow with the picture, such as colour profiles."""


def read_number(word: str) -> float:
    """The number that a word is to any tool; a ValueError for digits of other scripts, and underscores."""
    if not word.isascii() or "_" in word:
        raise ValueError("it is no number")
    return float(word)


def require_plausible(path: Path, expected: tuple[int, int] | None = None) -> None:
    """Refuse by an OSError what is no regular file, and a length that no image of a size has.

    Pillow reads whole files of some formats into memory before it looks at them.

    Args:
        path: The file of an image.
        expected: (height, width) stated by the dataset. Without it, WebP's header is asked, which is the
            format that Pillow reads as a whole; any other image may be as large as Pillow opens.
    """
    length = require_regular(path)
    if length <= _BYTES_BESIDES:
        return
    largest = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if expected is not None:
        pixels = expected[0] * expected[1]
    else:
        with path.open("rb") as file:
            pixels = min(largest, _pixels_of_webp(file.read(30), largest))
    if length > _BYTES_PER_PIXEL * pixels + _BYTES_BESIDES:
        raise OSError(f"it has {length:,} bytes, more than an image of its size")


def _pixels_of_webp(start: bytes, otherwise: int) -> int:
    """How many pixels the first bytes of a WebP file state, or ``otherwise`` for another format."""
    if not (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return otherwise
    match start[12:16]:
        case b"VP8X":
            width, height = _little(start[24:27]) + 1, _little(start[27:30]) + 1
        case b"VP8L":
            bits = _little(start[21:25])
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            width, height = _little(start[26:28]) & 0x3FFF, _little(start[28:30]) & 0x3FFF
    return width * height


def _little(digits: bytes) -> int:
    return int.from_bytes(digits, "little")
