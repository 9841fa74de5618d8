"""A detector that cannot learn eight images by heart cannot learn anything."""

import json
from pathlib import Path

import pytest

import detrkit
from detrkit.training.events import Stepped, Validated


@pytest.fixture
def eight_images(tmp_path: Path, shared: Path) -> Path:
    """The first eight training images of COCO that have objects, to train and to validate on."""
    source = shared / "coco-mini"
    tree = json.loads((source / "annotations" / "instances_train2017.json").read_text())
    with_objects = {annotation["image_id"] for annotation in tree["annotations"]}
    tree["images"] = [image for image in tree["images"] if image["id"] in with_objects][:8]
    chosen = {image["id"] for image in tree["images"]}
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] in chosen]
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / "data" / split).symlink_to(source / "train2017")
        (tmp_path / "data" / "annotations" / f"instances_{split}.json").write_text(json.dumps(tree))
    return tmp_path / "data"


@pytest.mark.slow
def test_eight_real_images_are_learned_by_heart(tmp_path: Path, eight_images: Path) -> None:
    settings = {
        "model.backbone.name": "resnet18",
        "model.backbone.weights": "none",
        "model.backbone.norm": "batch",
        "model.transformer.width": 128,
        "model.transformer.feedforward": 256,
        "model.transformer.dropout": 0.0,
        "model.encoder.layers": 1,
        "model.decoder.layers": 2,
        "model.decoder.queries": 30,
        "data.short_sides": [128],
        "data.max_size": 192,
        "data.crop_probability": 0.0,
        "data.flip": 0.0,
        "data.batch_size": 8,
        "data.workers": 0,
        "optim.lr": 5e-4,
        "optim.backbone_lr": 5e-4,
        "optim.weight_decay": 0.0,
        "schedule.warmup": 0.05,
        "schedule.drop_at": 0.75,
        "train.max_steps": 400,
        "train.validate_every": 400,
    }
    events = list(detrkit.fit(detrkit.recipe("detr_r50", settings), eight_images, tmp_path / "run"))
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert losses[-1] < losses[0] / 10
    (validated,) = [event for event in events if isinstance(event, Validated)]
    assert validated.metrics.AP50 >= 0.95
