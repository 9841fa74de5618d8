"""Runs with a fault planted in each, trained for real: the doctor must name it first, or nothing at all.

Every run is recorded as the facts that the doctor judges, for the tests that run in seconds, and the table of
``docs/guides/doctor.md`` is written anew. One alone: ``pytest -m long -k 'planted and label_shift'``.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import detrkit
from detrkit.data.collate import to_network
from detrkit.data.dataset import SplitDataset
from detrkit.data.shapes import ShapesSettings, write_shapes
from detrkit.detectors.build import build_detector
from detrkit.errors import DetrkitError
from detrkit.monitoring.doctor.diagnose import diagnose
from detrkit.monitoring.doctor.facts import from_json, to_json
from detrkit.monitoring.doctor.gather import gather
from detrkit.structures import Images
from detrkit.training.averaging import Average

RECORDINGS = Path(__file__).parents[1] / "unit" / "monitoring" / "doctor" / "recordings"
PLANTED: dict[str, dict[str, str]] = json.loads((RECORDINGS / "planted.json").read_text())

SHAPES = ShapesSettings(
    train_images=800,
    val_images=60,
    image_size=64,
    num_shapes=(1, 4),
    sides=(14, 36),
    contrast=120,
    background_cell=16,
    background_range=64,
)

DETECTOR: dict[str, object] = {
    "data.short_sides": [64],
    "data.max_size": 64,
    "data.workers": 0,
    "model.backbone.levels": ["layer2"],
    "model.transformer.feedforward": 256,
    "model.encoder.layers": 1,
    "model.decoder.layers": 2,
    "model.decoder.queries": 12,
    "data.batch_size": 8,
    "train.ema": 0.99,
    "train.validate_every": 1,
    "train.trackers": [],
    "train.max_steps": 400,
}
"""A detector for shapes of 64 pixels that sees 800 images four times in half a minute on two cores."""

SHORT: dict[str, object] = {"train.max_steps": 200, "train.validate_every": 0.5}
SHORTER = SHORT | {"train.max_steps": 120}
"""For faults that are seen however long a run is."""

LONG: dict[str, object] = {"train.max_steps": 900}
"""For runs that are to end well."""

RECIPES = {
    "healthy_conditional": "shapes_conditional",
    "healthy_seed": "shapes_conditional",
    "slow_start": "shapes_anchor",
}

SETTINGS: dict[str, dict[str, object]] = {
    "healthy": LONG,
    "healthy_seed": LONG | {"train.seed": 1},
    "slow_start": LONG,
    "healthy_conditional": LONG,
    "rate_times_100": SHORT | {"optim.lr": 1e-1, "optim.backbone_lr": 1e-1},
    "rate_by_1000": SHORT | {"optim.lr": 1e-6, "optim.backbone_lr": 1e-6},
    "no_object": SHORT | {"scoring.kind": "softmax", "scoring.no_object": 1e-6},
    "few_queries": SHORT | {"model.decoder.queries": 2},
    "average": {"train.ema": 0.9999, "train.max_steps": 700},
    "frozen": SHORT,
    "nan": SHORT,
    "pixels": SHORTER,
    "copies": SHORTER,
    "slow_data": SHORTER,
    "early_drop": {"train.max_steps": 300, "schedule.drop_at": 0.1, "schedule.drop_factor": 0.01},
    "decay": SHORTER | {"optim.weight_decay": 20.0},
    "random_backbone": SHORTER | {"model.backbone.frozen_stages": 5},
    "shuffled_labels": {"train.max_steps": 700},
    "normalisation": {"train.max_steps": 700},
    "too_short": {"train.max_steps": 700},
    "few_images": {"train.validate_every": 50},
}

Tree = dict[str, Any]


def shift_labels(tree: Tree, folder: Path) -> None:
    for annotation in tree["annotations"]:
        annotation["category_id"] = annotation["category_id"] % 4 + 1


def shuffle_labels(tree: Tree, folder: Path) -> None:
    random = np.random.default_rng(0)
    for annotation in tree["annotations"]:
        annotation["category_id"] = int(random.integers(1, 5))


def state_corners(tree: Tree, folder: Path) -> None:
    for annotation in tree["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def keep_16_images(tree: Tree, folder: Path) -> None:
    tree["images"] = tree["images"][:16]
    tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] <= 16]


def copy_8_images(tree: Tree, folder: Path) -> None:
    first = [one for one in tree["annotations"] if one["image_id"] <= 8]
    annotations = []
    for image in tree["images"]:
        original = (image["id"] - 1) % 8 + 1
        path = folder / image["file_name"]
        content = (folder / f"{original - 1:06d}.png").read_bytes()
        path.unlink()
        path.write_bytes(content)
        for one in first:
            if one["image_id"] == original:
                annotations.append(one | {"id": len(annotations) + 1, "image_id": image["id"]})
    tree["annotations"] = annotations


DAMAGES: dict[str, Callable[[Tree, Path], None]] = {
    "label_shift": shift_labels,
    "shuffled_labels": shuffle_labels,
    "xyxy_as_xywh": state_corners,
    "few_images": keep_16_images,
    "copies": copy_8_images,
}


def freeze_all_but_the_class_head(patch: pytest.MonkeyPatch) -> None:
    def build(*given: Any) -> nn.Module:
        detector = build_detector(*given)
        for name, parameter in detector.named_parameters():
            parameter.requires_grad = "class" in name
        return detector

    patch.setattr("detrkit.training.prepare.build_detector", build)


def forget_to_normalise(images: Images, device: torch.device, dtype: torch.dtype) -> Images:
    return Images(images.pixels.to(device, dtype), images.valid)


def divide_twice(images: Images, device: torch.device, dtype: torch.dtype) -> Images:
    pixels, valid = to_network(images, device, dtype)
    return Images(pixels / 255, valid)


def normalise_in_evaluation_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("detrkit.training.step.to_network", forget_to_normalise)


def divide_pixels_twice(patch: pytest.MonkeyPatch) -> None:
    for module in ("detrkit.training.step", "detrkit.inference.detect"):
        patch.setattr(f"{module}.to_network", divide_twice)


def break_an_image(patch: pytest.MonkeyPatch) -> None:
    seen = 0

    def with_nan(images: Images, device: torch.device, dtype: torch.dtype) -> Images:
        nonlocal seen
        seen += 1
        pixels, valid = to_network(images, device, dtype)
        if seen == 100:
            pixels[0, 0, 0, 0] = float("nan")
        return Images(pixels, valid)

    patch.setattr("detrkit.training.step.to_network", with_nan)


def average_without_a_ramp(patch: pytest.MonkeyPatch) -> None:
    @torch.no_grad()
    def update(self: Average, detector: nn.Module) -> None:
        kept = self.decay if self.count else 0.0
        for average, current in zip(self.module.parameters(), detector.parameters(), strict=True):
            average.lerp_(current, 1 - kept)
        for buffer, now in zip(self.module.buffers(), detector.buffers(), strict=True):
            buffer.copy_(now)
        self.count += 1

    patch.setattr(Average, "update", update)


def load_slowly(patch: pytest.MonkeyPatch) -> None:
    load = SplitDataset.__getitem__

    def wait(self: SplitDataset, key: tuple[int, int]) -> object:
        time.sleep(0.012)
        return load(self, key)

    patch.setattr(SplitDataset, "__getitem__", wait)


PATCHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "frozen": freeze_all_but_the_class_head,
    "normalisation": normalise_in_evaluation_alone,
    "pixels": divide_pixels_twice,
    "nan": break_an_image,
    "average": average_without_a_ramp,
    "slow_data": load_slowly,
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "shapes"
    write_shapes(folder, SHAPES)
    return folder


def damaged(source: Path, target: Path, damage: Callable[[Tree, Path], None] | None) -> Path:
    """A copy of the dataset, of links to its images, with damaged training annotations."""
    if damage is None:
        return source
    (target / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (target / split).mkdir()
        for image in (source / split).iterdir():
            (target / split / image.name).symlink_to(image)
        tree = json.loads((source / "annotations" / f"instances_{split}.json").read_text())
        if split == "train":
            damage(tree, target / split)
        (target / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    return target


@pytest.mark.long
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named_first(
    name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = damaged(shapes, tmp_path / "data", DAMAGES.get(name))
    if name in PATCHES:
        PATCHES[name](monkeypatch)
    settings = DETECTOR | SETTINGS.get(name, {})
    experiment = detrkit.recipe(RECIPES.get(name, "shapes"), settings)
    try:
        for _ in detrkit.fit(experiment, data, tmp_path / "run"):
            pass
    except DetrkitError:
        assert name in ("nan", "rate_times_100")
    facts = gather(tmp_path / "run", data)
    (RECORDINGS / f"{name}.json").write_bytes(to_json(facts).replace(str(data).encode(), b"shapes"))
    found = diagnose(facts)
    assert (found[0].name if found else None) == PLANTED[name]["first"]


@pytest.mark.long
def test_the_table_of_the_guide_is_written() -> None:
    rows = [_row(name) for name in PLANTED if (RECORDINGS / f"{name}.json").exists()]
    guide = Path(__file__).parents[2] / "docs" / "guides" / "doctor.md"
    text = guide.read_text()
    before, _, rest = text.partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end of table -->\n")
    head = "| run | planted | AP | named first, with its confidence | then |\n|---|---|---|---|---|\n"
    guide.write_text(f"{before}<!-- table -->\n{head}{''.join(rows)}<!-- end of table -->\n{after}")


def _row(name: str) -> str:
    facts = from_json((RECORDINGS / f"{name}.json").read_bytes())
    found = diagnose(facts)
    first = f"`{found[0].name}` {found[0].confidence:.2f}" if found else "nothing"
    then = ", ".join(f"`{one.name}`" for one in found[1:])
    return f"| `{name}` | {PLANTED[name]['planted']} | {facts.course.best_ap:.3f} | {first} | {then} |\n"
