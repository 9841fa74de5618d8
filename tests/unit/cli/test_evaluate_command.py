import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from detrkit.cli.main import app


@pytest.fixture
def coco(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    """Its objects lie where an untrained DETR answers: in the middle, half as high and wide as the image."""
    root = write_coco(tmp_path / "coco", val=[3, 0, 3], train=[1], extra=[0])
    annotations = root / "annotations/instances_val.json"
    truth = json.loads(annotations.read_text())
    for annotation in truth["annotations"]:
        annotation |= {"bbox": [16, 16, 32, 32], "area": 32 * 32}
    annotations.write_text(json.dumps(truth))
    return root


def run(checkpoint: Path, data: Path, *arguments: object) -> Result:
    command = ["evaluate", checkpoint, "--data", data, "--workers", 0, *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in command], catch_exceptions=False)


def test_writes_what_pycocotools_would_say_of_the_detections(
    tmp_path: Path, checkpoint: Path, coco: Path
) -> None:
    ran = run(checkpoint, coco, "--out", tmp_path / "out", "--batch-size", 2)
    assert ran.exit_code == 0, ran.output
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth = COCO(str(coco / "annotations/instances_val.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "out/detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert " ".join(metrics) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl per_class"
    assert list(metrics.values())[:12] == pytest.approx(evaluation.stats.tolist(), abs=1e-9)
    assert metrics["AR100"] > 0
    assert list(metrics["per_class"]) == ["class 1", "class 2", "class 3"]
    assert ran.stdout.splitlines()[:12] == printed.getvalue().splitlines()[-12:]


def test_prints_a_line_for_each_class(checkpoint: Path, coco: Path) -> None:
    ran = run(checkpoint, coco)
    table = [line.split() for line in ran.stdout.splitlines() if line.strip().startswith("class")]
    truth = json.loads((coco / "annotations/instances_val.json").read_text())
    for number in (1, 2, 3):
        objects = sum(annotation["category_id"] == number for annotation in truth["annotations"])
        assert table[number - 1][:3] == ["class", str(number), str(objects)]
        assert len(table[number - 1]) == 5


def test_without_out_nothing_is_written(tmp_path: Path, checkpoint: Path, coco: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    ran = run(checkpoint, coco)
    assert "Nothing was written" in ran.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_another_split(checkpoint: Path, coco: Path) -> None:
    ran = run(checkpoint, coco, "--split", "extra")
    assert ran.stdout.splitlines()[0].endswith("= -1.000")
    assert "class 1 0 - -" in " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "has no split test"),
        (["--precision", "fp16", "--device", "cpu"], "the precision is fp16, which only a GPU computes in"),
        (["--device", "tpu"], "--device tpu: torch cannot compute there on this machine; take cpu."),
        (["--out", "{file}"], "model.safetensors cannot be made: File exists; name another."),
    ],
)
def test_what_cannot_be_done_is_said(
    checkpoint: Path, coco: Path, arguments: list[str], message: str
) -> None:
    ran = run(checkpoint, coco, *(argument.format(file=checkpoint) for argument in arguments))
    assert ran.exit_code == 2
    assert message in ran.stderr.partition("Error: ")[2]
    assert ran.stdout == ""
