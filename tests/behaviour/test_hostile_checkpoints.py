"""Checkpoints that mean harm run nothing, read nothing else, and take no more memory than they hold."""

import copy
import io
import json
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detrkit.errors import DetrkitError
from detrkit.inference.load import load, read
from detrkit.models.pretrained import read_weights
from detrkit.weights import store

MARK, STOP = b"(", b"."
MB = 2**20
UNDILATED = {"model.backbone.dilation": False}
GrownBy = Callable[[Callable[[], object]], int]


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def opcodes(file: Path) -> dict[str, bytes]:
    """Pickles which Python's own unpickler has write ``file``, each by another opcode."""
    command = text(f"touch {file}")
    code = text(f"open({str(file)!r}, 'w')")
    system = b"cos\nsystem\n"
    return {
        "reduce": system + command + b"\x85R" + STOP,
        "inst": MARK + command + b"ios\nsystem\n" + STOP,
        "obj": MARK + system + command + b"o" + STOP,
        "newobj": b"cfunctools\npartial\n" + system + command + b"\x86\x81)R" + STOP,
        "build": b"cargparse\nNamespace\n)R}" + text("__setstate__") + system + b"sb" + command + b"b" + STOP,
        "stack global": text("os") + text("system") + b"\x93" + command + b"\x85R" + STOP,
        "inner name": text("builtins") + text("eval.__call__") + b"\x93" + code + b"\x85R" + STOP,
        "memo": system + b"q\x00" + b"0h\x00" + command + b"\x85R" + STOP,
        "dict value": b"}" + text("model") + system + command + b"\x85Rs" + STOP,
    }


def as_archive(pickled: bytes) -> bytes:
    """The bytes of a file of ``torch.save`` that holds another pickle."""
    saved, changed = io.BytesIO(), io.BytesIO()
    torch.save({"model": {"a": torch.zeros(3)}}, saved)
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            after.writestr(name, pickled if name.endswith("data.pkl") else before.read(name))
    return changed.getvalue()


OPCODES = sorted(opcodes(Path()))


@pytest.mark.parametrize("opcode", OPCODES)
def test_each_pickle_would_write_the_file(tmp_path: Path, opcode: str) -> None:
    """Without which the next test would show nothing."""
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"],
        input=b"\x80\x04" + opcodes(tmp_path / "written")[opcode],
        check=False,
        timeout=60,
    )
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("reader", [read, read_weights])
@pytest.mark.parametrize("wrap", [bytes, as_archive, lambda pickled: as_archive(as_archive(pickled))])
@pytest.mark.parametrize("protocol", [b"\x80\x02", b"\x80\x04", b""])
@pytest.mark.parametrize("opcode", OPCODES)
def test_no_pickle_is_run(
    tmp_path: Path,
    reader: Callable[[Path], object],
    wrap: Callable[[bytes], bytes],
    protocol: bytes,
    opcode: str,
) -> None:
    path = tmp_path / "some.pth"
    path.write_bytes(wrap(protocol + opcodes(tmp_path / "written")[opcode]))
    refuse(reader, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ["../../outside", "/etc/passwd", "0"])
@pytest.mark.parametrize("numel", [2**60, -1, 3])
def test_a_persistent_id_names_nothing_outside(tmp_path: Path, key: str, numel: int) -> None:
    number = b"\x8a\x08" + struct.pack("<q", numel)
    storage = MARK + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number + b"tQ"
    path = tmp_path / "some.pth"
    path.write_bytes(as_archive(b"\x80\x02" + storage + STOP))
    refuse(read, path)
    path.write_bytes(
        as_archive(b"\x80\x02" + storage.replace(b"ctorch\nFloatStorage", b"cos\nsystem") + STOP)
    )
    refuse(read, path)


def originals(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors which show the architecture of a DETR of the original release, some of them others."""
    tensors = {
        "query_embed.weight": torch.zeros(5, 32),
        "transformer.encoder.layers.0.linear1.weight": torch.zeros(48, 32),
        "transformer.decoder.layers.0.linear1.weight": torch.zeros(48, 32),
        "backbone.0.body.layer3.0.conv1.weight": torch.zeros(2, 2, 1, 1),
        "backbone.0.body.layer3.1.conv1.weight": torch.zeros(2, 2, 1, 1),
        "class_embed.weight": torch.zeros(4, 32),
    }
    return tensors | {name.replace("__", "."): tensor for name, tensor in changed.items()}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"query_embed__weight": torch.zeros(1).expand(2**26, 32)}, "without its numbers"),
        ({"query_embed__weight": torch.zeros(2**40, 0)}, "without its numbers"),
        ({"class_embed__weight": torch.zeros(2**40, 0)}, "without its numbers"),
        ({"class_embed__weight": torch.zeros(200_002, 1)}, "has 200,001 classes"),
        ({"query_embed__weight": torch.zeros(200_000, 32, dtype=torch.uint8)}, "queries = 200000"),
        ({"query_embed__weight": torch.zeros(5, 32, device="meta")}, "without its numbers"),
        ({"query_embed__weight": torch.zeros(5, 32).to_sparse()}, "without its numbers"),
    ],
)
def test_tensors_that_are_not_there(
    tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str, grown_by: GrownBy
) -> None:
    path = tmp_path / "some.pth"
    torch.save({"model": originals(**tensors)}, path)
    assert grown_by(lambda: refuse(lambda one: read(one, UNDILATED), path, reason)) < 200 * MB


def test_one_storage_that_many_tensors_share(tmp_path: Path) -> None:
    shared = torch.zeros(1000, 1000)
    torch.save({"model": originals(**{f"more{number}": shared for number in range(100)})}, tmp_path / "a.pth")
    refuse(lambda one: read(one, UNDILATED), tmp_path / "a.pth", "claims 400,0")


def test_an_archive_that_unpacks_to_more_than_its_size(tmp_path: Path, grown_by: GrownBy) -> None:
    path = tmp_path / "some.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100 * MB))
        archive.writestr("archive/version", b"3")
    assert path.stat().st_size < MB
    assert grown_by(lambda: refuse(read, path, "unpacks to more than its size")) < 40 * MB


def test_members_that_lie_over_each_other(tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(MB))
        for number in range(100):
            again = copy.copy(archive.filelist[0])
            again.filename = f"archive/data/{number}"
            archive.filelist.append(again)
    refuse(read, path, "unpacks to more than its size")


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({}, 2**60),
        ({}, 2**64 - 1),
        ({"a": {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}}, None),
        ({"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}, None),
        ({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 0]}}, None),
    ],
)
def test_a_header_that_claims_more_than_there_is(
    tmp_path: Path, header: object, length: int | None, grown_by: GrownBy
) -> None:
    encoded = json.dumps(header).encode()
    path = tmp_path / "some.safetensors"
    path.write_bytes(struct.pack("<Q", length or len(encoded)) + encoded)
    for reader in (read, read_weights):
        assert grown_by(lambda reader=reader: refuse(reader, path)) < 100 * MB


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.transformer.width", 16_384),
        ("model.transformer.feedforward", 131_072),
        ("model.decoder.queries", 100_000),
        ("model.transformer.width", 2**40),
        ("model.encoder.layers", 10**9),
        ("model.decoder.layers", 10**9),
        ("data.max_size", 10**9),
    ],
)
def test_settings_that_ask_for_more_than_the_file_holds(
    checkpoint: Path, setting: str, value: int, grown_by: GrownBy
) -> None:
    tensors, metadata = store.read_tensors(checkpoint)
    about = json.loads(metadata["detrkit"])
    *sections, name = setting.split(".")
    tree = about["experiment"]
    for section in sections:
        tree = tree[section]
    assert name in tree
    tree[name] = value
    store.write_tensors(checkpoint, tensors, {"detrkit": json.dumps(about)})
    assert grown_by(lambda: refuse(load, checkpoint)) < 300 * MB


def test_numbers_of_another_kind(checkpoint: Path) -> None:
    tensors, metadata = store.read_tensors(checkpoint)
    name = "network.decoder.heads.classes.bias"
    store.write_tensors(checkpoint, tensors | {name: tensors[name].to(torch.complex64)}, metadata)
    refuse(load, checkpoint, "complex64, not torch.float32")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "inner/a", "..", "a\0b", 7])
def test_shards_of_a_folder_lie_in_it(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "detr"}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    save_file({"a": torch.zeros(2)}, tmp_path / "outside.safetensors")
    refuse(read, folder, "a file beside it is expected")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors.index.json"])
def test_json_of_great_depth(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr"}))
    (tmp_path / name).write_text('{"x": ' + "[" * 10**6 + "]" * 10**6 + "}")
    refuse(read, tmp_path, str(tmp_path))


def test_names_of_classes_that_no_file_can_hold(checkpoint: Path, tmp_path: Path) -> None:
    tensors, metadata = store.read_tensors(checkpoint)
    damaged = metadata["detrkit"].replace("class 2", "\\ud800")
    store.write_tensors(checkpoint, tensors, {"detrkit": damaged})
    refuse(read, checkpoint, "ud800' is no UTF-8")
    torch.save({"model": originals(), "detrkit": damaged}, tmp_path / "some.pth")
    refuse(read, tmp_path / "some.pth", "ud800' is no UTF-8")
    (tmp_path / "folder").mkdir()
    config = {"model_type": "detr", "id2label": {"0": "\ud800"}}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(2)}, tmp_path / "folder" / "model.safetensors")
    refuse(read, tmp_path / "folder", r"the label '\ud800' in id2label")


@pytest.mark.parametrize(
    "row", ['[Infinity, "a", true]', "[NaN, 1, 1]", f'["{"x" * 10**5}", "a", true]', "[1]"]
)
def test_categories_of_another_kind(checkpoint: Path, tmp_path: Path, row: str) -> None:
    tensors, metadata = store.read_tensors(checkpoint)
    about = json.loads(metadata["detrkit"]) | {"categories": "here"}
    damaged = json.dumps(about).replace('"here"', f"[{row}]")
    store.write_tensors(checkpoint, tensors, {"detrkit": damaged})
    refuse(read, checkpoint, "damaged metadata")
    torch.save({"model": originals(), "detrkit": damaged}, tmp_path / "some.pth")
    refuse(read, tmp_path / "some.pth", "damaged settings")


def test_metadata_of_great_depth(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"detrkit": "[" * 10**6 + "]" * 10**6})
    refuse(read, path, "damaged metadata")


def test_settings_of_an_original_that_unfold_without_end(tmp_path: Path) -> None:
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    path = tmp_path / "some.pth"
    torch.save({"model": originals(), "detrkit": value}, path)
    refuse(read, path, "damaged settings")
    torch.save({"model": originals(), "args": Namespace(nheads=value, dilation=False)}, path)
    refuse(read, path, "heads")


def refuse(reader: Callable[[Path], object], path: Path, reason: str = "") -> None:
    """Reading is refused in a sentence that names the file and fits on a page."""
    with pytest.raises(DetrkitError) as refusal:
        reader(path)
    text = str(refusal.value)
    assert str(path) in text
    assert reason in text
    assert len(text) < 1000
