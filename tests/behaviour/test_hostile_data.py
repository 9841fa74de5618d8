"""Datasets, images and settings that mean harm read nothing else, and take no more memory than they hold."""

import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from PIL import Image

from detrkit.data.check.examine import examine
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.fetch.extract import Wanted, extract
from detrkit.data.formats.recognise import read_split
from detrkit.data.headers import read_header
from detrkit.data.images import read_image
from detrkit.data.names import column
from detrkit.data.renames import read_renames
from detrkit.data.shards.opened import OpenShards
from detrkit.data.shards.plan import Limits
from detrkit.data.shards.write import write_shards
from detrkit.data.transforms import unchanged
from detrkit.errors import DetrkitError
from detrkit.settings.experiment import parse_overrides, recipe
from detrkit.settings.toml import NotTomlError, parse_toml
from detrkit.tuning.space import read_searches

MB = 2**20
GrownBy = Callable[[Callable[[], object]], int]
OUTSIDE = (
    "../outside.png",
    "/etc/passwd",
    "inner/../../outside.png",
    "..\\outside.png",
    "C:\\x.png",
    "a\0.png",
)
XML = (
    "{head}<annotation><filename>{name}</filename><size><width>8</width><height>8</height></size>"
    "<object><name>{label}</name>{more}<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
    "</object></annotation>"
)


@pytest.fixture
def coco(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    Image.new("RGB", (64, 64)).save(tmp_path / "outside.png")
    return write_coco(tmp_path / "data", train=[2, 1])


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "data/JPEGImages/a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (tmp_path / "data/ImageSets/Main/train.txt").write_text("a\n")
    write_xml(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for folder in (tmp_path / "data", tmp_path / "outside"):
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        Image.new("RGB", (8, 8)).save(folder / "images/a.png")
        (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "outside/list.txt").write_text("images/a.png\n")
    (tmp_path / "data/data.yaml").write_text("names: [cat]\ntrain: images\n")
    return tmp_path / "data"


def write_xml(root: Path, head: str = "", name: str = "a.png", label: str = "cat", more: str = "") -> None:
    (root / "Annotations/a.xml").write_text(XML.format(head=head, name=name, label=label, more=more))


def change(root: Path, edit: Callable[[dict], object]) -> Path:
    path = root / "annotations/instances_train.json"
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    return path


def read_samples(root: Path, split: str = "train") -> None:
    catalog = read_split(root, split)
    require_images(catalog)
    dataset = SplitDataset(catalog, unchanged)
    for index in range(len(dataset)):
        _ = dataset[0, index]


def refuse(call: Callable[[], object], *parts: str) -> None:
    """The call is refused in a sentence that has all parts and fits on a page."""
    with pytest.raises(DetrkitError) as refusal:
        call()
    assert all(part in str(refusal.value) for part in parts), refusal.value
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("name", [*OUTSIDE, "", "x" * 300 + "/a.png", "x/" * 1000 + "a.png"])
def test_coco_names_only_files_of_its_folder(coco: Path, name: str) -> None:
    path = change(coco, lambda tree: tree["images"][0].update(file_name=name))
    refuse(lambda: read_samples(coco), str(path), "image 1", "a path inside the images' folder")
    found = {finding.fault.name for finding in examine(coco).findings}
    assert ("file-name-outside" if name else "file-name-missing") in found


def test_one_long_name_does_not_widen_all_others(coco: Path, grown_by: GrownBy) -> None:
    def edit(tree: dict) -> None:
        names = ["x" * MB, *(f"{number}.png" for number in range(3000))]
        tree["images"] = [
            {"id": number, "file_name": name, "width": 8, "height": 8} for number, name in enumerate(names)
        ]
        tree["categories"] = [{"id": number, "name": name} for number, name in enumerate(names)]
        tree["annotations"] = []

    change(coco, edit)
    assert grown_by(lambda: refuse(lambda: read_split(coco, "train"), "a path inside")) < 100 * MB
    assert grown_by(lambda: examine(coco, depth="annotations")) < 200 * MB


LONG = "/".join(["x" * 200] * 5)


def test_a_name_that_may_be_does_not_widen_all_others_either(coco: Path, grown_by: GrownBy) -> None:
    def edit(tree: dict) -> None:
        names = [f"{LONG}.png", *(f"{number}.png" for number in range(60_000))]
        tree["images"] = [
            {"id": number, "file_name": name, "width": 8, "height": 8} for number, name in enumerate(names)
        ]
        tree["annotations"] = []

    path = change(coco, edit)
    assert grown_by(lambda: refuse(lambda: read_split(coco, "train"), str(path), "1,008 char")) < 60 * MB


@pytest.mark.parametrize(("number", "size"), [(1000, 0), (17_000, 17 * MB)])
def test_long_names_are_read_where_others_are_as_long_or_few(number: int, size: int) -> None:
    names = [LONG, *["x"] * number]
    assert column(names, Path("a.json"), size).tolist() == names


def test_names_as_wide_as_the_longest_are_bounded_by_the_size() -> None:
    refuse(lambda: column([LONG, *["x"] * 17_000], Path("a.json"), 16 * MB), "a.json", "1,004 char", "'xxx")


@pytest.mark.parametrize("place", ["images", "annotations", "categories", "info"])
def test_coco_of_great_depth(coco: Path, place: str) -> None:
    path = coco / "annotations/instances_train.json"
    tree = json.loads(path.read_text()) | {"info": {}}
    entry = tree[place] if place == "info" else tree[place][0]
    entry["x"] = "deep"
    path.write_text(json.dumps(tree).replace('"deep"', "[" * 10**6 + "]" * 10**6))
    refuse(lambda: read_samples(coco), str(path))
    assert "annotations-refused" in {finding.fault.name for finding in examine(coco).findings}


def test_no_id_is_left_for_annotations_without_one(coco: Path) -> None:
    def edit(tree: dict) -> None:
        tree["annotations"][0]["id"] = 2**63 - 1
        del tree["annotations"][1]["id"]

    refuse(lambda: read_samples(coco), str(change(coco, edit)), "give every annotation an id")


def test_categories_that_no_split_has(coco: Path) -> None:
    change(coco, lambda tree: tree.update(categories=[], annotations=[]))
    assert "no-categories" in {finding.fault.name for finding in examine(coco).findings}


ENTITIES = {
    "bomb": '<!DOCTYPE a [<!ENTITY a0 "xxxxxxxxxx">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + "]>",
    "external": '<!DOCTYPE a [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>',
    "parameter": '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p; <!ENTITY a9 "x">]>',
}


@pytest.mark.parametrize("kind", ENTITIES)
def test_xml_entities(voc: Path, kind: str, grown_by: GrownBy) -> None:
    write_xml(voc, head=ENTITIES[kind], label="&a9;")
    call = lambda: refuse(lambda: read_samples(voc), str(voc / "Annotations/a.xml"), "refuses")  # noqa: E731
    assert grown_by(call) < 50 * MB


def test_xml_of_great_depth_is_read(voc: Path, grown_by: GrownBy) -> None:
    write_xml(voc, more="<x>" * 100_000 + "</x>" * 100_000)
    assert grown_by(lambda: read_samples(voc)) < 200 * MB


@pytest.mark.parametrize("name", OUTSIDE[:-1])
def test_voc_names_only_files_of_its_folder(voc: Path, name: str) -> None:
    (voc / "JPEGImages/a.png").unlink()
    write_xml(voc, name=name)
    refuse(lambda: read_samples(voc), "a.jpg", "missing")
    (voc / "ImageSets/Main/train.txt").write_text(f"{name}\n")
    refuse(lambda: read_samples(voc), str(voc / "ImageSets/Main/train.txt"), "but Annotations has no")


@pytest.mark.parametrize(
    "entries",
    [
        "train: ../outside/images",
        "train: ../outside/list.txt",
        "train: {outside}/images",
        "train: images/../../outside/images",
        "path: ../outside\ntrain: images",
        "path: {outside}\ntrain: images",
        "path: ..\ntrain: outside/images",
        "train: [images, ../outside/images]",
    ],
)
def test_yolo_names_only_folders_of_its_own(yolo: Path, entries: str) -> None:
    (yolo / "data.yaml").write_text(f"names: [cat]\n{entries.format(outside=yolo.parent / 'outside')}\n")
    refuse(lambda: read_samples(yolo), str(yolo / "data.yaml"))


@pytest.mark.parametrize("line", ["../outside/images/a.png", "{outside}/images/a.png", "x" * 5000])
def test_yolo_lists_name_only_images_of_its_own(yolo: Path, line: str) -> None:
    (yolo / "list.txt").write_text(line.format(outside=yolo.parent / "outside"))
    (yolo / "data.yaml").write_text("names: [cat]\ntrain: list.txt\n")
    refuse(lambda: read_samples(yolo), str(yolo / "list.txt"), "line 1")


def test_yolo_reads_no_labels_of_another_folder(yolo: Path) -> None:
    inner, elsewhere = yolo.parent / "images/data", yolo.parent / "labels/data/pictures"
    inner.parent.mkdir()
    yolo.rename(inner)
    (inner / "images").rename(inner / "pictures")
    (inner / "data.yaml").write_text("names: [cat]\ntrain: pictures\n")
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    refuse(lambda: read_samples(inner), f"looked for as {inner / 'pictures/a.txt'}")


PIPES = {
    "yolo": ("images/a.png", "labels/a.txt"),
    "voc": ("Annotations/a.xml", "ImageSets/Main/train.txt"),
    "coco": ("train/shards.json", "resized.json"),
}


@pytest.mark.parametrize(("layout", "name"), [(layout, name) for layout in PIPES for name in PIPES[layout]])
def test_a_pipe_in_place_of_a_file_is_refused(layout: str, name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    holder = os.open(root / name, os.O_RDWR)  # so that whoever opens it to read waits for what never comes
    try:
        refuse(lambda: read_samples(root), str(root / name))
    finally:
        os.close(holder)


HALVES = ("\\ud800", "\\udfff", "a\\udc80b")


@pytest.mark.parametrize("name", HALVES)
def test_yolo_names_no_class_that_no_file_can_hold(yolo: Path, name: str) -> None:
    (yolo / "data.yaml").write_text(f'names: ["{name}"]\ntrain: images\n')
    refuse(lambda: read_samples(yolo), str(yolo / "data.yaml"), f"class 0 '{name}'", "UTF-8")


@pytest.mark.parametrize("name", HALVES)
def test_coco_names_no_class_that_no_file_can_hold(coco: Path, name: str) -> None:
    path = coco / "annotations/instances_train.json"
    path.write_text(path.read_text().replace('"class 1"', f'"{name}"'))
    refuse(lambda: read_samples(coco), str(path), "is not JSON")
    "".join(text for finding in examine(coco).findings for text in finding.examples).encode()


def test_no_xml_names_half_of_a_surrogate_pair(voc: Path) -> None:
    write_xml(voc, label="&#xD800;")
    refuse(lambda: read_samples(voc), str(voc / "Annotations/a.xml"), "cannot be read as XML")


def ten_times(number: int) -> str:
    """A YAML list of ten references to what has this number."""
    return f"[{', '.join([f'*a{number}'] * 10)}]"


@pytest.mark.parametrize(
    "names",
    [
        # each of ten lists holds the one before ten times
        "\n".join(
            [" 0: &a0 [x]", *(f" {n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11))]
        ),
        "\n".join(
            [
                " 0: &a0 {x: 0}",
                *(f" {n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)),
            ]
        ),
        f" 0: {'[' * 10**5}{']' * 10**5}",
        " 0: !!python/object/apply:os.system [touch written]",
        f" 0: 0x{'f' * 10**5}",
        f" {2**31}: x",
        " 99999999999999999999: x",
    ],
    ids=["lists", "merged", "deep", "object", "digits", "class", "large class"],
)
def test_yaml_that_means_harm(
    yolo: Path, names: str, grown_by: GrownBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(yolo)
    (yolo / "data.yaml").write_text(f"train: images\nnames:\n{names}\n")
    call = lambda: refuse(lambda: read_samples(yolo), str(yolo / "data.yaml"))  # noqa: E731
    assert grown_by(call) < 200 * MB
    assert not (yolo / "written").exists()


def test_many_classes_take_no_quadratic_time(yolo: Path) -> None:
    names = "".join(f" - c{number}\n" for number in range(20_000))
    (yolo / "data.yaml").write_text(f"train: images\nnames:\n{names}")
    assert len(read_split(yolo, "train").categories) == 20_000


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("files", "../train-000000.tar"),
        ("offsets", 2**62),
        ("lengths", 2**62),
        ("lengths", 2**61),
        ("sizes", 2**61),
    ],
)
def test_an_index_of_shards_that_leads_elsewhere(
    coco: Path, tmp_path: Path, column: str, value: object, grown_by: GrownBy
) -> None:
    write_shards(coco, tmp_path / "shards", lambda *_: None, limits=Limits(MB, 10))
    index = tmp_path / "shards/train/shards.json"
    tree = json.loads(index.read_text())
    tree[column][0] = value
    index.write_text(json.dumps(tree))
    assert grown_by(lambda: refuse(lambda: read_samples(tmp_path / "shards"), "shard")) < 100 * MB


@pytest.mark.parametrize("unit", [2**20, 1])
def test_an_index_of_shards_whose_lengths_are_not_there(
    coco: Path, tmp_path: Path, unit: int, grown_by: GrownBy
) -> None:
    write_shards(coco, tmp_path / "shards", lambda *_: None, limits=Limits(MB, 10))
    index = tmp_path / "shards/train/shards.json"
    tree = json.loads(index.read_text())
    tree["sizes"][0], tree["lengths"][0] = 2**41 * unit, 2**41 * unit - MB
    index.write_text(json.dumps(tree))
    catalog = read_split(tmp_path / "shards", "train")  # of which a preview asks no more
    shard = str(tmp_path / "shards/train" / tree["files"][0])
    assert (
        grown_by(lambda: refuse(lambda: OpenShards(catalog).read(0), shard, "the shard ends after")) < 50 * MB
    )
    (tmp_path / "shards/train" / tree["files"][0]).unlink()
    os.mkfifo(shard)
    refuse(lambda: OpenShards(catalog).read(0), shard, "not a regular file")


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 1), (1, 2**31 - 1)])
def test_an_image_that_claims_many_pixels(tmp_path: Path, size: tuple[int, int], grown_by: GrownBy) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(*size))
    for reading in (read_image, read_header):
        assert grown_by(lambda reading=reading: refuse(lambda: reading(path), str(path))) < 50 * MB


def test_an_image_for_which_another_program_would_run(tmp_path: Path) -> None:
    encapsulated = BytesIO()
    Image.new("RGB", (8, 8)).save(encapsulated, "EPS")
    path = tmp_path / "a.png"
    path.write_bytes(encapsulated.getvalue())
    with Image.open(path) as opened:
        assert opened.format == "EPS"
    for reading in (read_image, read_header):
        refuse(lambda reading=reading: reading(path), str(path), "its format is not known")


def test_settings_that_no_file_can_hold(tmp_path: Path) -> None:
    refuse(lambda: recipe("shapes", {"data.train_split": "a\ud800"}), r"data.train_split = 'a\ud800'")


@pytest.mark.parametrize(
    "text",
    [
        "train.validate_every = 1e-320",
        "train.validate_every = 1e308",
        f"train.budget = '{'9' * 400}h'",
        f"train.budget = '0.{'0' * 320}1s'",
        f"train.budget = '{'9' * 400}'",
    ],
)
def test_settings_that_no_run_could_follow(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)
    refuse(lambda: recipe(path), str(path), text.split()[0])


@pytest.mark.parametrize("kind", ["a: [", "a = [", "[", "a = {b="])
def test_settings_of_great_depth(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(kind * 10**5)
    refuse(lambda: recipe(path), str(path))
    refuse(lambda: recipe("shapes", parse_overrides([f"optim.lr={kind * 10**5}"])), "optim.lr")


@pytest.mark.parametrize(
    "text", [f"data.max_size = {'9' * 5000}", f"{'x.' * 200}x = 1", f"x = '{'y' * 10**6}'"]
)
def test_settings_of_great_length(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)
    refuse(lambda: recipe(path), str(path))
    refuse(lambda: recipe("shapes", parse_overrides([text.replace(" ", "")])))


def test_an_archive_that_claims_more_than_the_disk_holds(tmp_path: Path, grown_by: GrownBy) -> None:
    path = tmp_path / "some.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("images/a.jpg", b"x")
        archive.getinfo("images/a.jpg").file_size = 2**60
    wanted = Wanted("images", (), 1)
    call = lambda: extract(path, wanted, tmp_path / "data", tmp_path / "staging", lambda _: None)  # noqa: E731
    assert grown_by(lambda: refuse(call, "make room")) < 50 * MB
    assert not list((tmp_path / "staging").iterdir())


DEEP = "a" + ".a" * 20_000
MANY = range(2_000)


@pytest.mark.parametrize(
    "text",
    [
        f"{DEEP} = 1",
        f"[{DEEP}]",
        f"a = {{{DEEP} = 1}}",
        "".join(f"[b{number}.a.a.a.a.a.a.a]\n" for number in MANY),
        "".join(f"b{number}.a.a.a.a.a.a.a = 1\n" for number in MANY),
        "".join(f"b{number} = {{}}\n" for number in MANY),
    ],
    ids=["key", "table", "inline table", "tables", "keys", "inline tables"],
)
def test_keys_take_memory_by_their_length(tmp_path: Path, grown_by: GrownBy, text: str) -> None:
    """Python's reader alone takes 1.5 GB for the first of these."""
    path = tmp_path / "some.toml"
    path.write_text(text)
    assert grown_by(lambda: refuse(lambda: recipe(path), str(path))) < 40 * MB
    assert grown_by(lambda: refuse(lambda: read_renames([str(path)]), str(path))) < 40 * MB


def test_keys_in_options_take_memory_by_their_length(grown_by: GrownBy) -> None:
    option = f"optim.lr={{{DEEP}=1}}"
    assert grown_by(lambda: refuse(lambda: recipe("shapes", parse_overrides([option])), "optim.lr")) < 40 * MB
    assert grown_by(lambda: read_searches([option])) < 40 * MB


@pytest.mark.parametrize(
    "unit", ["a.", "a. ", '"', "'", "\\", '"\\"', "a", "a ", ".", "'''a", '"""', '"" ', "1.5,", "a.b.c,"]
)
def test_keys_are_looked_for_in_time_by_the_length_of_the_text(unit: str) -> None:
    def seconds(length: int) -> float:
        text, start = unit * (length // len(unit)), time.process_time()
        with pytest.raises(NotTomlError):
            parse_toml(text)
        return time.process_time() - start

    short, long = (min(seconds(length) for _ in range(3)) for length in (2**15, 2**20))
    assert long < 200 * max(short, 1e-4)  # 32 times as long, of which the square would be 1,024


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_settings_and_maps_that_never_end(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"some{suffix}"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    refuse(lambda: read_renames([str(path)]), str(path), "not a regular file")
    if suffix == ".toml":
        refuse(lambda: recipe(path), str(path), "not a regular file")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("box", [[1e308] * 4, [-1e308, 1, 1e308, 1], [1, 1, 1e200, 1e200], [1, 2**31, 1, 1]])
def test_boxes_that_no_image_has(coco: Path, box: list[float]) -> None:
    path = change(coco, lambda tree: tree["annotations"][1].update(bbox=box))
    refuse(lambda: read_split(coco, "train"), str(path), "annotation 2", "pixels below 2,147,483,648")
    found = {finding.fault.name: finding.count for finding in examine(coco).findings}
    assert found["box-not-finite"] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("area", [1e308, -1e308])
def test_areas_that_no_image_has(coco: Path, area: float) -> None:
    path = change(coco, lambda tree: tree["annotations"][1].update(area=area))
    refuse(lambda: read_split(coco, "train"), str(path), "annotation 2", f"{area:g}")
    assert "area-wrong" in {finding.fault.name for finding in examine(coco).findings}


def test_the_largest_boxes_are_read(coco: Path) -> None:
    change(coco, lambda tree: tree["annotations"][0].update(bbox=[0, 0, 2**31 - 1, 2**31 - 1], area=2.0**61))
    catalog = read_split(coco, "train")
    assert catalog.boxes[0].tolist() == [0, 0, 2**31 - 1, 2**31 - 1]
    assert catalog.areas[0] == 2**61
