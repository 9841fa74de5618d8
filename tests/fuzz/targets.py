"""The readers of files that may come from anybody, each with small valid files to start from."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from zipfile import ZipFile

import torch
from checkpoints import KINDS, narrowed, write_original, write_ours, write_torchvision, write_transformers
from damage import (
    Damage,
    damage_bytes,
    damage_json,
    damage_lines,
    damage_pickle,
    damage_safetensors,
    damage_text,
    damage_yaml,
    damage_zip,
)
from folders import read_note_plan, read_run_folder, write_note_plan, write_run_folder
from PIL import Image
from safetensors.torch import save_file

from detrkit.data.check.examine import examine
from detrkit.data.check.pictures import look
from detrkit.data.dataset import SplitDataset, require_images
from detrkit.data.fetch.extract import Wanted, extract
from detrkit.data.formats.recognise import read_split
from detrkit.data.headers import read_header
from detrkit.data.images import read_image, read_reduced_image
from detrkit.data.renames import read_renames
from detrkit.data.shards.plan import Limits
from detrkit.data.shards.write import write_shards
from detrkit.data.transforms import unchanged
from detrkit.errors import DetrkitError
from detrkit.inference.load import load, read
from detrkit.models.pretrained import read_weights
from detrkit.settings.experiment import parse_overrides, recipe


@dataclass(frozen=True)
class Target:
    """A reader, and the files that it starts from, each with the kind of damage that is done to it."""

    name: str
    write: Callable[[Path], None]
    """Writes a valid dataset, checkpoint or other into a folder."""
    damage: Mapping[str, Damage]
    """Of each file by its name: ways to damage it."""
    read: Callable[[Path, str], object]
    """Reads what lies in a folder, or only the file of that name if the others have nothing to do with it."""

    def attack(self, folder: Path, random: Random) -> DetrkitError | None:
        """Damage one file, read, and put it back: the refusal, or None if it was read. A crash is raised."""
        name = random.choice(sorted(self.damage))
        content = (folder / name).read_bytes()
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            content = self.damage[name](content, random)
        return self.read_with(folder, name, content)

    def read_with(self, folder: Path, name: str, content: bytes) -> DetrkitError | None:
        """What reading does while a file has another content."""
        with _replaced(folder / name, content):
            try:
                self.read(folder, name)
            except DetrkitError as error:
                return error
        return None


@contextmanager
def _replaced(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def _write_images(folder: Path) -> None:
    """Four images of 12 x 8 pixels, or one turned by EXIF."""
    folder.mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        Image.effect_noise((12, 8), 90).convert("RGB").save(folder / name)


def _write_coco(root: Path) -> None:
    _write_images(root / "train" / "inner")
    content = {
        "info": {"year": 2020},
        "images": [
            {"id": 7, "file_name": "inner/a.png", "width": 12, "height": 8},
            {"id": 3, "file_name": "inner/b.jpg", "width": 12, "height": 8, "licence": [1]},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4.5], "area": 9.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 12, 8], "area": 96, "iscrowd": 1},
            {"image_id": 3, "category_id": 2, "bbox": [-1, 2, 30, 4]},
        ],
        "categories": [{"id": 9, "name": "zebra"}, {"id": 2, "name": "cat"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(content))


def _write_voc(root: Path) -> None:
    _write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1\nb -1\n")
    for name in ("a", "b"):
        (root / f"Annotations/{name}.xml").write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n'
            f"<filename>{name}.png</filename>\n<size><width>12</width><height>8</height></size>\n"
            "<object>\n<name>cat</name>\n<difficult>0</difficult>\n"
            "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4.5</xmax><ymax>6</ymax></bndbox>\n</object>\n"
            "</annotation>\n"
        )


def _write_yolo(root: Path) -> None:
    _write_images(root / "images/train")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.375 0.5 0.25 0.4\n1 0.9 0.1 0.2 0.2\n")
    (root / "labels/train/b.txt").write_text("1 0.5 0.5 1 1\n")
    (root / "list.txt").write_text("images/train/a.png\n./images/train/b.jpg\n")
    (root / "data.yaml").write_text(
        "path: .\ntrain: [images/train]\nval: list.txt\nnc: 2\nnames: {0: cat, 1: zebra}\n"
    )


def _write_shards(root: Path) -> None:
    _write_coco(root / "source")
    write_shards(root / "source", root / "shards", lambda *_: None, limits=Limits(2**20, 1))


def _write_kinds_of_images(folder: Path) -> None:
    noise = Image.effect_noise((24, 16), 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.convert("RGB").save(folder / "a.jpg", exif=exif, icc_profile=b"x" * 50)
    noise.convert("P").save(folder / "a.png", transparency=3, exif=exif)
    noise.save(folder / "a.gif", save_all=True, append_images=[noise.rotate(90)])
    noise.convert("RGB").save(folder / "a.tiff", compression="tiff_lzw")
    noise.convert("RGBA").save(folder / "a.webp", exif=exif)
    noise.save(folder / "a.bmp")


def _write_run(folder: Path) -> None:
    _write_coco(folder / "data")
    write_run_folder(folder / "run", read_split(folder / "data", "train"))


def _write_settings(folder: Path) -> None:
    (folder / "some.toml").write_text(
        "[data]\nshort_sides = [128, 64]\nmax_size = 256\n[model]\nkind = 'detr'\n[model.backbone]\n"
        'name = "resnet18"\nlevels = ["layer3"]\n[model.decoder]\nkind = "anchor"\nqueries = 25\n'
        "denoising.groups = 5\n[optim]\nlr = 1e-3\n[schedule]\ndrop_at = 0.85\n"
    )
    (folder / "assignments.txt").write_text(
        'optim.lr=2e-4\ndata.short_sides=[64, 96]\nmodel.decoder.kind="anchor"\ntrain.precision=bf16\n'
    )


def _write_backbone(folder: Path) -> None:
    tensors = {"conv1.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(4)}
    torch.save(tensors, folder / "some.pth")
    save_file(tensors, folder / "some.safetensors", {"format": "pt"})


def _write_archive(folder: Path) -> None:
    with ZipFile(folder / "some.zip", "w") as archive:
        archive.writestr("images/a.jpg", b"first" * 50)
        archive.writestr("images/b.jpg", b"second" * 50, 8)
        archive.writestr("notes/c.txt", b"third")


def _read_dataset(root: Path, name: str) -> None:
    split = "val" if name == "list.txt" else "train"
    catalog = read_split(root, split)
    require_images(catalog)
    dataset = SplitDataset(catalog, unchanged)
    for index in range(len(dataset)):
        _ = dataset[0, index]


def _check(root: Path, name: str) -> None:
    """Faults are listed, however many there are; those that training refuses count as a refusal."""
    findings = examine(root).findings
    "".join(text for finding in findings for text in finding.examples).encode()
    listed = [finding.fault for finding in findings if finding.fault.severity == "error"]
    if listed:
        raise DetrkitError(f"{root}: {listed[0].name}")


def _read_image(folder: Path, name: str) -> None:
    look(folder / name, pixels=True)
    read_header(folder / name)
    read_reduced_image(folder / name, None, 2)
    read_image(folder / name)


def _write_maps(folder: Path) -> None:
    (folder / "some.toml").write_text("automobile = \"car\"\n\"a.b\" = '''c'''\ntruck = \"\"\n")
    (folder / "some.json").write_text('{"automobile": "car", "a.b": "c", "truck": ""}')


def _read_map(folder: Path, name: str) -> None:
    read_renames([str(folder / name)])


def _read_settings(folder: Path, name: str) -> None:
    assignments = (folder / "assignments.txt").read_text("utf-8", "replace").splitlines()
    recipe(folder / "some.toml", parse_overrides(assignments))


@narrowed()
def _load_file(folder: Path, name: str) -> None:
    load(folder / name)


@narrowed()
def _read_classical(folder: Path, name: str) -> None:
    read(folder / name)  # which builds the network already


@narrowed()
def _load_folder(folder: Path, name: str) -> None:
    load((folder / name).parent)


def _extract(folder: Path, name: str) -> None:
    root = folder / "root"
    try:
        extract(folder / name, Wanted("images", (), 2), root, root / "staging", lambda _: None)
    finally:
        shutil.rmtree(root, ignore_errors=True)


_IMAGES = ("a.bmp", "a.gif", "a.jpg", "a.png", "a.tiff", "a.webp")

TARGETS = (
    Target(
        "coco",
        _write_coco,
        {"annotations/instances_train.json": damage_json},
        _read_dataset,
    ),
    Target(
        "coco-check",
        _write_coco,
        {"annotations/instances_train.json": damage_json, "train/inner/a.png": damage_bytes},
        _check,
    ),
    Target(
        "voc",
        _write_voc,
        {
            "Annotations/a.xml": damage_text,
            "Annotations/b.xml": damage_text,
            "ImageSets/Main/train.txt": damage_text,
        },
        _read_dataset,
    ),
    Target(
        "yolo",
        _write_yolo,
        {"data.yaml": damage_yaml, "labels/train/a.txt": damage_text, "list.txt": damage_text},
        _read_dataset,
    ),
    Target(
        "shards",
        _write_shards,
        {
            "shards/train/shards.json": damage_json,
            "shards/annotations/instances_train.json": damage_json,
            "shards/train/train-000001.tar": damage_bytes,
        },
        lambda folder, name: _read_dataset(folder / "shards", name),
    ),
    Target("images", _write_kinds_of_images, dict.fromkeys(_IMAGES, damage_bytes), _read_image),
    Target(
        "settings",
        _write_settings,
        {"some.toml": damage_text, "assignments.txt": damage_text},
        _read_settings,
    ),
    Target("maps", _write_maps, {"some.toml": damage_text, "some.json": damage_json}, _read_map),
    Target("ours", write_ours, {"some.safetensors": damage_safetensors}, _load_file),
    Target(
        "original",
        write_original,
        {"some.pth": damage_pickle, "ours.pth": damage_pickle, "old.pth": damage_bytes},
        _load_file,
    ),
    Target(
        "torchvision",
        write_torchvision,
        {"faster_rcnn.pth": damage_pickle, "ssd.pth": damage_pickle},
        _read_classical,
    ),
    Target(
        "transformers",
        write_transformers,
        {f"{kind}/config.json": damage_json for kind in KINDS}
        | {
            "detr/preprocessor_config.json": damage_json,
            "detr/model.safetensors.index.json": damage_json,
            "detr/one.safetensors": damage_safetensors,
            "noted/config.json": damage_json,
            "noted/model.safetensors": damage_safetensors,
        },
        _load_folder,
    ),
    Target(
        "backbone",
        _write_backbone,
        {"some.pth": damage_pickle, "some.safetensors": damage_safetensors},
        lambda folder, name: read_weights(folder / name),
    ),
    Target(
        "runs",
        _write_run,
        {
            "run/run.json": damage_json,
            "run/log.jsonl": damage_lines,
            "run/experiment.toml": damage_text,
            "run/evaluation/metrics.json": damage_json,
            "run/evaluation/analysis.json": damage_json,
            "run/evaluation/precision_recall.npz": damage_zip,
        },
        lambda folder, name: read_run_folder(folder / "run", name),
    ),
    Target("plans", write_note_plan, {"plan.json": damage_json}, read_note_plan),
    Target("archives", _write_archive, {"some.zip": damage_zip}, _extract),
)
"""All of them."""

if __name__ == "__main__":
    print(*(target.name for target in TARGETS))  # noqa: T201 for the Makefile
