"""Run folders of every kind: whole, cut short, without detections, and of many classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detrkit.data.formats.recognise import read_split
from detrkit.evaluation.coco import Result, write_results
from detrkit.evaluation.judged import judge
from detrkit.settings.experiment import recipe, to_toml

_IMAGES = 12


def _names(number: int) -> list[str]:
    """Names of classes, with some that a page or a formula would trip over."""
    awkward = ["<script>alert(1)</script>", '$x^2$ & "co"', "кошка | 猫"]
    return [*awkward, *(f"class {rank}" for rank in range(number))][:number]


def write_data(root: Path, classes: int, seed: int = 0) -> list[Result]:
    """A dataset without its pixels in COCO's layout, and results that are near its objects."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, _IMAGES + 1):
        for _ in range(5):
            category = int(rng.integers(1, classes + 1))
            x, y, width, height = (float(value) for value in rng.uniform([0, 0, 20, 20], [60, 60, 60, 60]))
            entry = {"image_id": image, "category_id": category, "bbox": [x, y, width, height]}
            area = {"id": len(annotations) + 1, "area": width * height, "iscrowd": 0}
            annotations.append(entry | area)
            moved = [x + float(rng.normal(0, 4)), y + float(rng.normal(0, 4)), width, height]
            said = category if rng.random() < 0.8 else int(rng.integers(1, classes + 1))
            score = float(rng.uniform(0.05, 1))
            results.append({"image_id": image, "category_id": said, "bbox": moved, "score": score})
    tree = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 128, "height": 128}
            for number in range(1, _IMAGES + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": rank, "name": name} for rank, name in enumerate(_names(classes), start=1)],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    (root / "annotations" / "instances_val.json").write_text(json.dumps(tree))
    return results


def step_line(step: int, epoch: float) -> dict[str, Any]:
    return {
        "event": "step",
        "step": step,
        "epoch": epoch,
        "loss": 20 / step,
        "terms": {"classification": [2 / step, 1 / step], "class_error": [90.0, 80.0]},
        "gradient_norm": 5.0,
        "gradient_norms": {"backbone": 3.0, "rest": 4.0},
        "update_ratios": {"backbone": 1e-4, "rest": 1e-3} if step % 2 else None,
        "learning_rates": {"backbone": 1e-5, "rest": 1e-4},
        "images": 4,
        "seconds": 0.5,
        "data_seconds": 0.1,
        "memory": 2**30,
    }


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Writes a run of ``epochs`` with 10 steps each: ``write_run(folder, epochs=2, classes=3)``.

    ``finished`` says whether its log ends well, ``found`` whether it detected anything.
    """

    def write(
        root: Path,
        *,
        epochs: int = 3,
        classes: int = 4,
        finished: bool = True,
        found: bool = True,
        seed: int = 0,
        lr: float = 1e-4,
    ) -> Path:
        data, run = root / "data", root / "run"
        results = write_data(data, classes, seed) if not data.exists() else []
        results = results if found else []
        run.mkdir()
        catalog = read_split(data, "val")
        metrics = judge(catalog, results).metrics.to_dict()
        log: list[dict[str, Any]] = []
        for epoch in range(1, epochs + 1):
            log += [step_line(step, step / 10) for step in range(10 * epoch - 9, 10 * epoch + 1)]
            log.append(
                {
                    "event": "validation",
                    "step": 10 * epoch,
                    "epoch": float(epoch),
                    "metrics": metrics | {"AP": metrics["AP"] * epoch / epochs},
                    "raw": metrics,
                    "kept": True,
                    "seconds": 2.0,
                }
            )
        if finished:
            log.append({"event": "finished", "step": 10 * epochs, "reason": "every step is done"})
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
        experiment = recipe("shapes", {"data.val_split": "val", "optim.lr": lr})
        (run / "experiment.toml").write_text(to_toml(experiment))
        header = {
            "recipe": "shapes",
            "data": str(data),
            "splits": {"train": "train", "val": "val"},
            "images": {"val": _IMAGES},
            "machine": {"processor": "a <fast> one", "cores": "2", "device": "cpu"},
            "parameters": 1_234_567,
            "trainable_parameters": 1_000_000,
            "notes": ["Images are small."],
            "seconds": 3700.0,
        }
        (run / "run.json").write_text(json.dumps(header))
        (run / "evaluation").mkdir()
        write_results(run / "evaluation" / "detections.json", results)
        (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
        return run

    return write
