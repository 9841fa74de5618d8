import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from detrkit.data.fetch.extract import Content, Wanted, extract
from detrkit.errors import DetrkitError

IMAGES = Wanted("val2017", (), 2)
FILES = {"val2017/a.jpg": b"first" * 50, "val2017/b.jpg": b"second" * 50}
Zipped = Callable[[dict[str, bytes]], bytes]


class Place(NamedTuple):
    archive: Path
    root: Path

    def extract(self, wanted: Wanted = IMAGES) -> dict[str, Content]:
        return extract(self.archive, wanted, self.root, self.root / "staging", lambda _: None)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "root").mkdir()
    return Place(tmp_path / "some.zip", tmp_path / "root")


def test_the_images_and_nothing_else_appear(place: Place, zipped: Zipped) -> None:
    others = {"val2017/": b"", "val2017/notes.txt": b"", "other/c.jpg": b"", "val2017/deep/d.jpg": b""}
    place.archive.write_bytes(zipped(FILES | others))
    contents = place.extract()
    assert {str(file.relative_to(place.root)) for file in place.root.rglob("*")} == {"val2017", *FILES}
    assert all((place.root / name).read_bytes() == content for name, content in FILES.items())
    assert contents["a.jpg"] == Content(250, zipfile.crc32(FILES["val2017/a.jpg"]))


def test_files_of_others_stay_and_damaged_ones_are_replaced(place: Place, zipped: Zipped) -> None:
    folder = place.root / "val2017"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (folder / "a.jpg").write_bytes(FILES["val2017/a.jpg"])
    (folder / "b.jpg").write_bytes(b"damaged")
    untouched = (folder / "a.jpg").stat()
    place.archive.write_bytes(zipped(FILES))
    place.extract()
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "b.jpg").read_bytes() == FILES["val2017/b.jpg"]
    assert (folder / "a.jpg").stat().st_ino == untouched.st_ino


@pytest.mark.parametrize(
    "name",
    ["../evil", "val2017/../../evil", "/evil", "val2017//evil", "..\\evil", "C:/evil", "val2017/./evil"],
)
def test_names_that_lead_elsewhere(place: Place, zipped: Zipped, name: str) -> None:
    place.archive.write_bytes(zipped(FILES | {name: b"evil"}))
    with pytest.raises(DetrkitError, match=r"could lie outside the dataset.*nothing of it is extracted"):
        place.extract()
    assert list(place.root.iterdir()) == []
    assert {file.name for file in place.root.parent.iterdir()} == {"root", "some.zip"}


def test_a_name_that_is_empty_before_its_null(place: Place, zipped: Zipped) -> None:
    place.archive.write_bytes(zipped(FILES | {"?evil": b"evil"}).replace(b"?evil", b"\0evil"))
    with pytest.raises(DetrkitError, match=r"the name '\\x00evil', which could lie outside the dataset"):
        place.extract()
    assert list(place.root.iterdir()) == []


def test_symbolic_links(place: Place) -> None:
    link = zipfile.ZipInfo("val2017/a.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(place.archive, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(DetrkitError, match=r"the symbolic link 'val2017/a.jpg'"):
        place.extract()
    assert list(place.root.iterdir()) == []


def test_a_link_in_the_folder_is_replaced_and_not_followed(place: Place, zipped: Zipped) -> None:
    (place.root / "val2017").mkdir()
    outside = place.root.parent / "outside"
    outside.write_bytes(b"precious")
    (place.root / "val2017/a.jpg").symlink_to(outside)
    place.archive.write_bytes(zipped(FILES))
    place.extract()
    assert outside.read_bytes() == b"precious"
    assert (place.root / "val2017/a.jpg").read_bytes() == FILES["val2017/a.jpg"]


def test_names_that_occur_twice(place: Place) -> None:
    with zipfile.ZipFile(place.archive, "w") as opened:
        opened.writestr("val2017/a.jpg", "one")
        with pytest.warns(UserWarning, match=r"Duplicate"):
            opened.writestr("val2017/a.jpg", "two")
    with pytest.raises(DetrkitError, match=r"holds 'val2017/a.jpg' 2 times"):
        place.extract()


def test_a_wrong_number_of_images(place: Place, zipped: Zipped) -> None:
    place.archive.write_bytes(zipped(FILES | {"val2017/c.jpg": b""}))
    with pytest.raises(DetrkitError, match=r"holds 3 of .* 2 images"):
        place.extract()
    assert list(place.root.iterdir()) == []


def test_a_named_file_that_lacks(place: Place, zipped: Zipped) -> None:
    place.archive.write_bytes(zipped({"annotations/x.json": b"{}"}))
    with pytest.raises(DetrkitError, match=r"but annotations/y.json must be among them"):
        place.extract(Wanted("annotations", ("x.json", "y.json"), 0))


def test_a_truncated_archive_is_removed(place: Place, zipped: Zipped) -> None:
    place.archive.write_bytes(zipped(FILES)[:-40])
    with pytest.raises(DetrkitError, match=r"was damaged .*fetches it again"):
        place.extract()
    assert not place.archive.exists()
    assert list(place.root.iterdir()) == []


@pytest.mark.parametrize("spoil", [{6: 0xFF}, {9: 0x08, 46: 0xFF}], ids=["version", "name"])
def test_an_entry_that_zipfile_cannot_read(place: Place, zipped: Zipped, spoil: dict[int, int]) -> None:
    """PKWARE's APPNOTE, 4.3.12: byte 6 is the version that it needs, 9 flags UTF-8, names begin at 46."""
    spoilt = bytearray(zipped(FILES))
    entry = spoilt.index(b"PK\x01\x02")
    for place_in_entry, value in spoil.items():
        spoilt[entry + place_in_entry] = value
    place.archive.write_bytes(spoilt)
    with pytest.raises(DetrkitError, match=r"was damaged .*fetches it again"):
        place.extract()
    assert not place.archive.exists()


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_crc_leaves_no_file_of_that_name(place: Place, packing: int) -> None:
    with zipfile.ZipFile(place.archive, "w", packing) as opened:
        for name, content in FILES.items():
            opened.writestr(name, content)
    with zipfile.ZipFile(place.archive) as opened:
        start = opened.getinfo("val2017/b.jpg").header_offset + 30 + len("val2017/b.jpg")
    spoilt = bytearray(place.archive.read_bytes())
    spoilt[start + 4] ^= 1
    place.archive.write_bytes(spoilt)
    with pytest.raises(DetrkitError, match=r"was damaged .*b.jpg|was damaged .*decompressing"):
        place.extract()
    assert not place.archive.exists()
    assert not (place.root / "val2017").exists()
    assert [file.name for file in place.root.rglob("*.*")] == ["a.jpg"]  # staged, and used next time


def test_what_would_fill_the_disk_is_not_begun(
    place: Place, zipped: Zipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive.write_bytes(zipped(FILES))
    free = sum(map(len, FILES.values())) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - free, free))
    with pytest.raises(DetrkitError, match=r"extracting .*some.zip needs 0.00 GB"):
        place.extract()
    assert not [file for file in place.root.rglob("*") if file.is_file()]
