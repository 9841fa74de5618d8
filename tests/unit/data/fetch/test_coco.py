import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detrkit.data.fetch.coco import Outcome, fetch_coco
from detrkit.data.fetch.download import Retries
from detrkit.data.fetch.progress import Progress
from detrkit.data.fetch.releases import RELEASES, Part, parts_of
from detrkit.data.formats.recognise import read_split
from detrkit.errors import DetrkitError

IMAGES = "/zips/val2017.zip"
ANNOTATIONS = "/annotations/annotations_trainval2017.zip"


class Fetch:
    """What fetching from the server makes of one folder."""

    def __init__(self, server: Any, coco: Any, root: Path) -> None:
        self.server = server
        self.coco = coco
        self.root = root
        self.address: str = server.url
        self.seen: list[Progress] = []
        self.retries = Retries(lambda _: None, tries=3)

    def __call__(self, *splits: str, **how: Any) -> list[str]:
        """The state of each part afterwards: annotations first, then the splits."""
        self.server.requests.clear()
        watch = how.pop("watch", self.seen.append)
        how = {"server": self.address, "retries": self.retries} | how
        outcomes: list[Outcome] = fetch_coco(self.root, self.parts(*splits), watch, **how)
        return [outcome.state for outcome in outcomes]

    def parts(self, *splits: str) -> list[Part]:
        return parts_of(self.coco.release, splits or ("train2017", "val2017"))

    @property
    def asked(self) -> set[str]:
        return {request.target for request in self.server.requests}

    @property
    def files(self) -> dict[str, bytes]:
        """What the folder holds, but for what is in .fetch."""
        return {
            str(file.relative_to(self.root)): file.read_bytes()
            for file in self.root.rglob("*")
            if file.is_file() and ".fetch" not in file.parts
        }

    def published(self, *splits: str) -> dict[str, bytes]:
        """What a folder with these splits must hold."""
        chosen = tuple(f"{split}/" for split in splits)
        jsons = [f"annotations/instances_{split}.json" for split in splits]
        return {
            name: content
            for name, content in self.coco.files.items()
            if name in jsons or name.startswith(chosen)
        }

    @property
    def archives(self) -> list[str]:
        return sorted(file.name for file in (self.root / ".fetch").glob("*.zip*"))


@pytest.fixture
def fetch(server: Any, coco: Any, tmp_path: Path) -> Fetch:
    return Fetch(server, coco, tmp_path / "some" / "coco")


def test_both_splits_come_in_cocos_layout(fetch: Fetch) -> None:
    assert fetch() == ["fetched"] * 3
    assert fetch.files == fetch.published("train2017", "val2017")
    assert fetch.archives == []
    assert read_split(fetch.root, "train2017").file_names.tolist() == [f"{n:012d}.jpg" for n in (1, 2, 3)]


def test_every_stage_of_every_part_is_told_to_its_end(fetch: Fetch) -> None:
    fetch("val2017")
    ends = {(one.part, one.stage) for one in fetch.seen if one.done == one.total}
    parts = ("annotations_trainval2017", "val2017")
    assert ends == {(part, stage) for part in parts for stage in ("fetching", "checking", "extracting")}


def test_parts_are_fetched_at_the_same_time(fetch: Fetch) -> None:
    together = threading.Barrier(3, timeout=10)  # raises unless all three threads come

    def meet(progress: Progress) -> None:
        if progress.stage == "fetching" and progress.done == 0:
            together.wait()

    assert fetch(watch=meet) == ["fetched"] * 3


def test_a_second_run_asks_for_nothing(fetch: Fetch) -> None:
    fetch()
    assert fetch() == ["there"] * 3
    assert fetch.asked == set()


def test_a_further_split_leaves_the_first_alone(fetch: Fetch) -> None:
    fetch("val2017")
    assert fetch.files == fetch.published("val2017")
    assert fetch("train2017") == ["fetched", "fetched"]
    assert IMAGES not in fetch.asked
    assert fetch() == ["there"] * 3
    assert fetch.files == fetch.published("train2017", "val2017")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "folder missing"])
def test_what_was_damaged_is_fetched_again(
    fetch: Fetch, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    fetch()
    victim = fetch.root / "val2017/000000000002.jpg"
    content = victim.read_bytes()
    match damage:
        case "truncated":
            victim.write_bytes(content[:-1])
        case "flipped":
            victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "missing":
            victim.unlink()
        case _:
            shutil.rmtree(victim.parent)
    assert fetch() == ["there", "there", "fetched"]
    assert fetch.asked == {IMAGES}
    assert "of its files are missing or damaged" in caplog.text
    assert fetch.files == fetch.published("train2017", "val2017")


def test_damaged_annotations_are_fetched_again(fetch: Fetch) -> None:
    fetch()
    (fetch.root / "annotations/instances_val2017.json").write_text("{}")
    assert fetch("train2017") == ["there", "there"]
    assert fetch("val2017") == ["fetched", "there"]
    assert fetch.files == fetch.published("train2017", "val2017")


def test_a_touched_file_is_read_once_and_no_more(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch()
    for file in (fetch.root / ".fetch/train2017.json", *fetch.root.glob("train2017/*")):
        os.utime(file, ns=(10**18, 10**18))
    read: list[str] = []
    monkeypatch.setattr("detrkit.data.fetch.record.holds", lambda path, _: read.append(path.name) or True)
    assert fetch("train2017")[1] == "there"
    assert {f"{number:012d}.jpg" for number in (1, 2, 3)} <= set(read)
    read.clear()
    assert fetch("train2017")[1] == "there"
    assert not [name for name in read if name.endswith(".jpg")]


def test_a_copy_from_elsewhere_is_counted_and_kept(fetch: Fetch) -> None:
    fetch()
    shutil.rmtree(fetch.root / ".fetch")
    assert fetch() == ["found"] * 3
    assert fetch.asked == set()
    (fetch.root / "val2017/000000000001.jpg").unlink()
    assert fetch() == ["found", "found", "fetched"]
    assert fetch.files == fetch.published("train2017", "val2017")


def test_archives_can_be_kept_and_mend_without_a_network(fetch: Fetch) -> None:
    fetch(keep_archives=True)
    assert fetch.archives == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]
    (fetch.root / "val2017/000000000001.jpg").unlink()
    assert fetch(keep_archives=True) == ["there", "there", "fetched"]
    assert fetch.asked == set()


def test_a_damaged_archive_is_fetched_again(fetch: Fetch) -> None:
    fetch(keep_archives=True)
    archive = fetch.root / ".fetch/val2017.zip"
    archive.write_bytes(archive.read_bytes()[:-1])
    shutil.rmtree(fetch.root / "val2017")
    assert fetch(keep_archives=True) == ["there", "there", "fetched"]
    assert fetch.asked == {IMAGES}
    assert archive.read_bytes() == fetch.server.files[IMAGES]


def test_a_part_that_fails_leaves_the_others_usable(fetch: Fetch) -> None:
    fetch("train2017")
    content = fetch.server.files.pop(IMAGES)
    with pytest.raises(DetrkitError, match=r"val2017.zip answers 404 Not Found"):
        fetch()
    assert fetch.published("train2017").items() <= fetch.files.items()
    fetch.server.files[IMAGES] = content
    assert "fetched" in fetch()
    assert fetch.files == fetch.published("train2017", "val2017")


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """As a program in a terminal does; one that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_leaves_a_part_that_the_next_run_goes_on_with(fetch: Fetch) -> None:
    half = len(fetch.server.files[IMAGES]) // 2
    more = threading.Event()
    fetch.server.answer(IMAGES, hold=more)

    def interrupt(progress: Progress) -> None:
        if progress.part == "val2017" and progress.done == half:
            threading.Timer(0.3, more.set).start()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fetch("val2017", watch=interrupt)
    assert "val2017.zip.part" in fetch.archives
    assert not (fetch.root / "val2017").exists()
    held = (fetch.root / ".fetch/val2017.zip.part").stat().st_size
    assert held >= half
    fetch("val2017")
    whole = fetch.coco.release.splits["val2017"].archive.size
    assert [(one.first, one.sent) for one in fetch.server.requests if one.target == IMAGES] == (
        [(held, whole - held)] if held < whole else []
    )
    assert fetch.files == fetch.published("val2017")


def test_an_interrupted_extraction_shows_no_images_and_needs_no_network_again(fetch: Fetch) -> None:
    def interrupt(progress: Progress) -> None:
        if (progress.part, progress.stage) == ("train2017", "extracting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("train2017", watch=interrupt)
    assert not (fetch.root / "train2017").exists()
    assert len(list((fetch.root / ".fetch/train2017").iterdir())) == 1
    fetch("train2017")
    assert "/zips/train2017.zip" not in fetch.asked
    assert fetch.files == fetch.published("train2017")


def test_a_small_disk_is_noticed_before(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 0))
    with pytest.raises(DetrkitError, match=r"train2017, val2017 needs 0.00 GB, but 0.00 GB are free"):
        fetch()
    assert fetch.server.requests == []
    assert not fetch.root.exists()


def test_the_official_release_needs_its_size_twice(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives are 20.4 GB, and images take as much again outside of them."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 40_300_000_000)
    )
    with pytest.raises(DetrkitError, match=r"needs 42.\d\d GB, but 40.30 GB are free"):
        fetch_coco(fetch.root, parts_of(RELEASES["2017"], ["train2017", "val2017"]), fetch.seen.append)


def test_mending_needs_room_for_the_archive_and_what_is_missing(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("val2017")
    (fetch.root / "val2017/000000000001.jpg").unlink()
    size = fetch.coco.release.splits["val2017"].archive.size
    room = size + size // 2 + 4096  # one image of two, and the rest of its last block
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, room - 1))
    with pytest.raises(DetrkitError, match=r"extracting val2017 needs"):
        fetch("val2017")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, room))
    assert fetch("val2017") == ["there", "fetched"]


@pytest.mark.parametrize("root", ["/proc/coco", "/sys/coco", "file/coco"])
def test_a_target_that_cannot_be_written(fetch: Fetch, tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("")
    fetch.root = tmp_path / root
    if not fetch.root.parent.exists():
        pytest.skip(f"this system has no {fetch.root.parent}")
    with pytest.raises(DetrkitError, match=r"cannot be read or written|0.00 GB are free"):
        fetch()
    assert fetch.server.requests == []


def test_a_complete_dataset_needs_no_right_to_write(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    fetch()
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert fetch() == ["there"] * 3


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_is_used(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, fetch.server.url)
    fetch.address = "http://images.invalid"  # known to nobody but the proxy
    assert fetch("val2017") == ["fetched", "fetched"]
    assert fetch.asked == {f"http://images.invalid{path}" for path in (ANNOTATIONS, IMAGES)}


def test_no_proxy_is_heeded(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://images.invalid")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetch("val2017") == ["fetched", "fetched"]


def test_a_proxy_that_cannot_be_used(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://somewhere")
    with pytest.raises(DetrkitError, match=r"the proxy that HTTP_PROXY.* cannot be used"):
        fetch()


@pytest.mark.parametrize("mirror", ["ftp://images.invalid", "images.invalid", "/data/coco"])
def test_a_mirror_that_is_no_address(fetch: Fetch, mirror: str) -> None:
    with pytest.raises(DetrkitError, match=f"--mirror {mirror} is no address"):
        fetch(server=mirror)


def test_a_split_of_another_year(fetch: Fetch) -> None:
    with pytest.raises(DetrkitError, match=r"no split 'val2014' among train2017, val2017: .* --year"):
        fetch("val2014")
