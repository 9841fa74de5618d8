import os
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from detrkit.data.headers import read_header
from detrkit.errors import DetrkitError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_image_is_shown_as_pillow_turns_it(tmp_path: Path, suffix: str, orientation: int) -> None:
    file = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(file, exif=exif)
    header = read_header(file)
    if suffix != "tif":  # which Pillow turns itself, and says so in its size
        assert header == (30, 40, orientation)
    with Image.open(file) as image:
        assert header.shown == ImageOps.exif_transpose(image).size[::-1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp"])
def test_no_pixel_is_decoded(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.effect_noise((640, 480), 90).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])  # decoding it would fail
    assert read_header(file) == (480, 640, 1)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["VP8 ", "VP8L", "VP8X"]
)
def test_a_webp_may_be_as_long_as_its_size_allows(tmp_path: Path, options: dict[str, object]) -> None:
    file = tmp_path / "a.webp"
    Image.new("RGB", (1200, 900)).save(file, **options)
    kind = file.read_bytes()[12:16].decode()
    os.truncate(file, 2**26 + 64 * 1200 * 900)
    assert read_header(file)[:2] == (900, 1200), kind
    os.truncate(file, 2**26 + 64 * 1200 * 900 + 1)
    with pytest.raises(DetrkitError, match=r"more than an image of its size"):
        read_header(file)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg").shown == (30, 40)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=r"a\.jpg does not exist"):
        read_header(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DetrkitError, match=r"a\.jpg cannot be read: its format is not known"):
        read_header(tmp_path / "a.jpg")
