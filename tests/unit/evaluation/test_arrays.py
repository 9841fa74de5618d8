"""Archives of curves from anybody: read to the bit, or refused before they take memory."""

import io
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest

from detrkit.errors import DetrkitError
from detrkit.evaluation.arrays import read_npz
from detrkit.evaluation.curves import Curves, read_curves, write_curves


def curves_of(classes: int, value: float | None = None) -> Curves:
    """COCO's IoUs and recalls; every precision is the same value, or drawn."""
    rng = np.random.default_rng(0)
    precision = rng.uniform(size=(10, 101, classes)) if value is None else np.full((10, 101, classes), value)
    return Curves(
        np.linspace(0.5, 0.95, 10),
        np.linspace(0, 1, 101),
        np.array([f"class {number}" for number in range(classes)]),
        precision,
        precision,
        precision.mean(axis=-1),
    )


@pytest.mark.parametrize("value", [None, 0.0, -1.0])
def test_curves_of_lvis_1203_classes_are_read_however_well_they_are_packed(
    tmp_path: Path, value: float | None
) -> None:
    path, found = tmp_path / "a.npz", curves_of(1203, value)
    write_curves(path, found)
    for before, after in zip(found, read_curves(path), strict=True):
        assert np.array_equal(before, after)


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_without_its_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.npz"
    write_curves(path, curves_of(9_000, 0.0))  # 73 MB, packed to a thousandth
    assert path.stat().st_size < 1e6
    taken, error = _refused(path)
    assert "unpacks to 72,720,128 bytes" in error  # 10 x 101 x 9,000 x 8, and 128 of a header
    assert taken < 8e6


@pytest.mark.parametrize(
    "shape", [(10**6, 10**6), (2**40,), (2**62, 2**62), (0, 2**70), (-1,), (-5, -5), (10, 101, 3)]
)
def test_a_shape_of_more_than_there_is_is_refused_without_its_memory(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "a.npz"
    _write(path, precision=_member({"descr": "<f8", "fortran_order": False, "shape": shape}, bytes(800)))
    taken, error = _refused(path)
    assert "precision" in error
    assert taken < 8e6


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **(curves_of(2)._asdict() | {"classes": np.array(["a", None], dtype=object)}))
    assert "holds objects" in _refused(path)[1]


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("precision", np.zeros((10, 101)), "shape (10, 101), where (10, 101, 2) is expected"),
        ("precision", np.zeros((10, 2, 101)), "shape (10, 2, 101)"),
        ("overall", np.zeros((10, 101), np.float32), "overall holds float32"),
        ("overall", np.full((10, 101), np.nan), "no fraction"),
        ("recalls", np.full(101, 1e308), "no fraction"),
        ("ious", np.zeros(0), "0 IoUs"),
        ("ious", np.array(0.5), "shape ()"),
        ("classes", np.arange(2), "classes holds int64"),
        ("classes", np.array([b"a", b"b"]), "classes holds |S1"),
        ("scores", np.zeros((10, 101, 2), [("a", "<f8")]), "scores holds"),
    ],
)
def test_arrays_that_are_no_curves_are_refused(
    tmp_path: Path, name: str, array: np.ndarray, words: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **(curves_of(2)._asdict() | {name: array}))
    assert words in _refused(path)[1]


def test_an_array_that_is_missing_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ious=np.zeros(3))
    with pytest.raises(ValueError, match=r"recalls\.npy"):
        read_npz(tmp_path / "a.npz", ("ious", "recalls"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_pack_is_refused(tmp_path: Path, method: int) -> None:
    """Both unpack a few bytes to any number at once."""
    path = tmp_path / "a.npz"
    file = io.BytesIO()
    np.save(file, np.zeros(10))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("ious.npy", file.getvalue())
    assert "as numpy does not pack it" in _refused(path)[1]


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**26 - 100)
    _write(path, ious=header + bytes(2**26 - 100), precision=b"")
    assert re.search("ious|[Hh]eader", _refused(path)[1])


@pytest.mark.parametrize(
    "text",
    ["{'descr': '<f8', (", "{1: 2, 'a': 3}", "{'descr': '<z9', 'fortran_order': False, 'shape': ()}", "'"],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.npz"
    _write(path, ious=b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    assert str(path) in _refused(path)[1]


def test_a_damaged_archive_is_refused_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_curves(path, curves_of(3))
    content, refusals = path.read_bytes(), list[str]()
    for seed in range(300):
        random = Random(seed)
        damaged = bytearray(content)
        if seed % 3 == 0:
            del damaged[random.randrange(len(content)) :]
        else:
            for _ in range(random.choice([1, 1, 5])):
                damaged[_place(random, content)] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        try:
            read_curves(path)
        except DetrkitError as error:
            refusals.append(str(error))
    assert len(refusals) > 200
    assert all(text.startswith(str(path)) and len(text) < 1000 for text in refusals)


def _place(random: Random, content: bytes) -> int:
    """Mostly in the headers, which decide about more than a packed number does."""
    if random.random() < 0.3:
        return random.randrange(len(content))
    return random.choice([random.randrange(200), len(content) - random.randrange(1, 500)])


def _refused(path: Path) -> tuple[int, str]:
    """The most memory that a reader took before it refused, and its sentence."""
    tracemalloc.start()
    try:
        with pytest.raises(DetrkitError, match="no precision-recall curves") as caught:
            read_curves(path)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


def _member(header: dict[str, object], content: bytes) -> bytes:
    text = f"{header!r}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def _write(path: Path, **members: bytes) -> None:
    """Curves of two classes, with other members in place of some."""
    arrays = {name: _saved(array) for name, array in curves_of(2)._asdict().items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (arrays | members).items():
            archive.writestr(f"{name}.npy", content)


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
