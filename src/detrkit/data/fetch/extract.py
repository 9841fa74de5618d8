"""Files out of a zip archive from the network, which may be damaged or mean harm.

Only what is asked for is written, into one folder, each file in one rename after its CRC-32 was found right.
A folder of images that is not there yet is filled elsewhere and appears in one rename, complete.
"""

import os
import shutil
import stat
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from detrkit.data.fetch.progress import Progress, Watch
from detrkit.errors import DetrkitError, shown

BLOCK = 2**20
"""Bytes that are copied at once."""

_DAMAGED = (BadZipFile, EOFError, zlib.error, NotImplementedError, UnicodeDecodeError)
"""What zipfile raises where an archive is cut, states a version that it does not know, or garbles a name."""


class Wanted(NamedTuple):
    """Files directly in ``folder`` of an archive: those named, or all ``num_images`` images if none is."""

    folder: str
    names: tuple[str, ...]
    num_images: int

    def __contains__(self, name: object) -> bool:
        return name in self.names if self.names else str(name).endswith(".jpg")


class Content(NamedTuple):
    """What a file must hold: its size in bytes and the CRC-32 of them."""

    size: int
    crc: int


def extract(archive: Path, wanted: Wanted, root: Path, staging: Path, watch: Watch) -> dict[str, Content]:
    """Have ``root/folder`` hold the files that are wanted, and say by name what they hold.

    Files of ``root/folder`` that are right already are kept, and all others there left alone.

    Args:
        archive: The zip file.
        wanted: Which files.
        root: The folder of the dataset.
        staging: Where a folder of images is filled, on the same file system, if it is not in ``root`` yet.
        watch: Is told after each file.

    Raises:
        DetrkitError: The archive is damaged, is unsafe or lacks files, or the disk is too small.
    """
    final = root / wanted.folder
    folder = final if wanted.names or final.exists() else staging
    try:
        with ZipFile(archive) as opened:
            members = _select(opened, wanted, archive)
            folder.mkdir(parents=True, exist_ok=True)
            _write_all(opened, members, folder, watch)
    except _DAMAGED as error:
        archive.unlink()
        raise DetrkitError(
            f"{archive} was damaged ({error}) and is removed: the same command fetches it again."
        ) from None
    if folder != final:
        folder.rename(final)
    return {name: Content(member.file_size, member.CRC) for name, member in members.items()}


def holds(path: Path, content: Content) -> bool:
    """Whether a file has that size and that checksum."""
    if not path.is_file() or path.stat().st_size != content.size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == content.crc


def require_space(root: Path, needed: int, purpose: str) -> None:
    """Refuse what would fill the disk.

    Raises:
        DetrkitError: Fewer than ``needed`` bytes are free where ``root`` is, or will be.
    """
    nearest = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise DetrkitError(
            f"{root}: {purpose} needs {_gigabytes(needed)}, but {_gigabytes(free)} are free there: make "
            "room or name another folder."
        )


def _select(opened: ZipFile, wanted: Wanted, archive: Path) -> dict[str, ZipInfo]:
    """The wanted members by the names that their files get, once the whole archive is known to be safe."""
    for member in opened.infolist():
        _require_safe(member, archive)
    files = [member for member in opened.infolist() if not member.is_dir()]
    name, number = Counter(member.filename for member in files).most_common(1)[0] if files else ("", 0)
    if number > 1:
        raise DetrkitError(
            f"{archive} holds {shown(name)} {number} times: fetch it elsewhere, with --mirror."
        )
    members = {
        base: member
        for member in files
        for folder, _, base in [member.filename.rpartition("/")]
        if folder == wanted.folder and base in wanted
    }
    missing = [name for name in wanted.names if name not in members]
    if missing or (not wanted.names and len(members) != wanted.num_images):
        expected = f"{wanted.folder}/{missing[0]}" if missing else f"{wanted.num_images:,} images"
        raise DetrkitError(
            f"{archive} holds {len(members):,} of the files that are wanted from {wanted.folder}/, but "
            f"{expected} must be among them: delete it, and fetch it elsewhere with --mirror."
        )
    return members


def _require_safe(member: ZipInfo, archive: Path) -> None:
    name = member.orig_filename
    parts = name.removesuffix("/").split("/")
    mode = member.external_attr >> 16
    if any(part in ("", ".", "..") for part in parts) or any(sign in name for sign in "\\:\0"):
        fault = f"the name {shown(name)}, which could lie outside the dataset"
    elif member.header_offset < 0:
        fault = f"{shown(name)} in a place before its beginning"
    elif stat.S_ISLNK(mode):
        fault = f"the symbolic link {shown(name)}"
    elif member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        fault = f"{shown(name)} encrypted or packed in a way that is not read here"
    else:
        return
    raise DetrkitError(
        f"{archive} has {fault}, so nothing of it is extracted: delete it, and fetch it elsewhere with "
        "--mirror."
    )


def _write_all(opened: ZipFile, members: dict[str, ZipInfo], folder: Path, watch: Watch) -> None:
    total = sum(member.file_size for member in members.values())
    missing = sum(member.file_size for name, member in members.items() if not (folder / name).exists())
    require_space(folder, missing, f"extracting {opened.filename}")
    done = 0
    for name, member in members.items():
        if not holds(folder / name, Content(member.file_size, member.CRC)):
            _write(opened, member, folder / name)
        done += member.file_size
        watch(Progress(str(opened.filename), "extracting", done, total))


def _write(opened: ZipFile, member: ZipInfo, path: Path) -> None:
    """Copy to a hidden file beside ``path``, and rename it when the archive has found its CRC-32 right."""
    part = path.with_name(f".{path.name}.part")
    try:
        with opened.open(member) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK)
        os.replace(part, path)  # noqa: PTH105 118,000 times
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
