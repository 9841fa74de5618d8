import io
import warnings
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from detrkit.data.images import read_image, read_reduced_image
from detrkit.errors import DetrkitError

ORIENTATION = 0x0112
PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def as_array(path: Path, expected: tuple[int, int] | None = None) -> np.ndarray:
    image = read_image(path, expected)
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def test_rgb_is_read_as_it_stands(tmp_path: Path) -> None:
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.png")
    np.testing.assert_array_equal(as_array(path), PIXELS)
    np.testing.assert_array_equal(as_array(path, (6, 4)), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("this Pillow does not read what it writes of this mode")
    image = Image.fromarray(PIXELS).convert("L" if mode == "1" else "RGB").convert(mode)
    path = saved(image, tmp_path / "a.tiff")
    np.testing.assert_array_equal(as_array(path), np.asarray(Image.open(path).convert("RGB")))


def test_grey_fills_all_three_channels(tmp_path: Path) -> None:
    path = saved(Image.fromarray(PIXELS[..., 0]), tmp_path / "a.png")
    np.testing.assert_array_equal(as_array(path), PIXELS[..., :1].repeat(3, axis=2))


def test_transparency_is_dropped_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE)
    path = saved(palette, tmp_path / "a.png", transparency=bytes(range(9)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(as_array(path), np.asarray(palette.convert("RGB")))
    clear = Image.fromarray(np.dstack([PIXELS, np.zeros((6, 4), np.uint8)]))
    np.testing.assert_array_equal(as_array(saved(clear, tmp_path / "b.png")), PIXELS)


@pytest.mark.parametrize(
    ("name", "dtype"), [("a.png", "<u2"), ("little.tiff", "<u2"), ("big.tiff", ">u2"), ("wide.tiff", "<i4")]
)
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, name: str, dtype: str) -> None:
    values = np.array([[0, 128, 129, 257, 25700, 65535]])
    path = saved(Image.fromarray(values.astype(dtype)), tmp_path / name)
    expected = np.round(values / 257).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1, 100, 255]]
    np.testing.assert_array_equal(as_array(path), expected[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("values", [np.full((2, 2), 70000, np.int32), np.full((2, 2), -1, np.int32)])
def test_more_than_16_bits_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    path = saved(Image.fromarray(values), tmp_path / "a.tiff")
    with pytest.raises(DetrkitError, match=r"a\.tiff holds values outside"):
        read_image(path)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.ones((2, 2), np.float32)), tmp_path / "a.tiff")
    with pytest.raises(DetrkitError, match=r"a\.tiff holds floating-point"):
        read_image(path)


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(Image.fromarray(PIXELS), path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, PIXELS),
        (2, PIXELS[:, ::-1]),
        (3, PIXELS[::-1, ::-1]),
        (4, PIXELS[::-1]),
        (5, PIXELS.transpose(1, 0, 2)),
        (6, np.rot90(PIXELS, -1)),
        (7, PIXELS[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(PIXELS)),
    ],
)
def test_orientation(tmp_path: Path, orientation: int, seen: np.ndarray) -> None:
    path = turned(tmp_path / "a.png", orientation)
    np.testing.assert_array_equal(as_array(path), seen)
    np.testing.assert_array_equal(as_array(path, (6, 4)), PIXELS)
    if orientation >= 5:
        np.testing.assert_array_equal(as_array(path, (4, 6)), seen)


def test_a_size_that_no_orientation_explains(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.png", 3)
    with pytest.raises(DetrkitError, match=r"a\.png is 4 x 6 pixels, but its dataset states 6 x 4"):
        read_image(path, (4, 6))
    with pytest.raises(DetrkitError, match=r"is 4 x 6 pixels, but its dataset states 40 x 60"):
        read_image(path, (60, 40))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match=r"absent\.png does not exist"):
        read_image(tmp_path / "absent.png")


def test_damaged_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.gif", "a.tiff", "a.webp", "a.bmp"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, {"jpg": "jpeg"}.get(name[2:], name[2:]))
        for length in (0, 3, 40, len(buffer.getvalue()) // 2):
            path = tmp_path / name
            path.write_bytes(buffer.getvalue()[:length])
            with pytest.raises(DetrkitError, match=rf"{name} cannot be read"):
                read_image(path)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DetrkitError, match="cannot be read"):
        read_image(tmp_path)


def test_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("L", (40, 40)), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DetrkitError, match=r"a\.png cannot be read: .*bomb"):
        read_image(path)


def test_no_file_stays_open(tmp_path: Path) -> None:
    good = saved(Image.fromarray(PIXELS), tmp_path / "a.png")
    bad = tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:50])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_image(good)
        with pytest.raises(DetrkitError):
            read_image(bad)
        with pytest.raises(DetrkitError):
            read_image(good, (1, 1))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("size", [(64, 96), (61, 99), (9, 40), (15, 15)])
def test_a_reduced_jpeg_has_the_means_of_its_pixels(
    tmp_path: Path, reduction: int, size: tuple[int, int]
) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([rows * 2, columns * 2, 255 - columns * 2], axis=-1).clip(0, 255).astype(np.uint8)
    path = saved(Image.fromarray(smooth), tmp_path / "a.jpg", quality=100, subsampling=0)
    image, by = read_reduced_image(path, size, reduction)
    assert by == reduction
    assert image.shape == (3, -(-size[0] // by), -(-size[1] // by))
    whole = [size[0] // by, size[1] // by]
    means = smooth[: whole[0] * by, : whole[1] * by].reshape(whole[0], by, whole[1], by, 3).mean((1, 3))
    found = image.permute(1, 2, 0).numpy()[: whole[0], : whole[1]]
    assert np.abs(found - means).max(initial=0) <= 3


def test_a_jpeg_too_small_to_be_reduced_is_said_to_be_whole(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (40, 1)), tmp_path / "a.jpg")
    image, by = read_reduced_image(path, (1, 40), 2)
    assert (by, image.shape) == (1, (3, 1, 40))


def test_what_is_not_a_jpeg_is_not_reduced(tmp_path: Path) -> None:
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.png")
    image, by = read_reduced_image(path, (6, 4), 2)
    assert by == 1
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), PIXELS)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_reduced_jpeg_of_any_mode_is_rgb(tmp_path: Path, mode: str) -> None:
    path = saved(Image.new("RGB", (32, 48), (200, 200, 200)).convert(mode), tmp_path / "a.jpg", quality=95)
    image, by = read_reduced_image(path, (48, 32), 4)
    assert (by, image.shape) == (4, (3, 12, 8))
    assert (image.int() - 200).abs().max() <= 3


def test_a_reduced_jpeg_is_turned_like_the_whole(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:16, :24] = 255  # stored at the top left, seen at the top right
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(Image.fromarray(pixels), tmp_path / "a.jpg", exif=exif, quality=95)
    image, by = read_reduced_image(path, (96, 64), 8)
    assert (by, image.shape) == (8, (3, 12, 8))
    assert image[0].gt(127).nonzero().tolist() == [[row, column] for row in range(3) for column in (6, 7)]
    with pytest.raises(DetrkitError, match=r"a\.jpg is 96 x 64 pixels, but its dataset states 12 x 8"):
        read_reduced_image(path, (8, 12), 8)


def test_a_damaged_jpeg_is_damaged_reduced_too(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DetrkitError, match=r"a\.jpg cannot be read"):
        read_reduced_image(path, (64, 64), 4)
