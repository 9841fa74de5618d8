import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    table = [line.split() for line in ran.stdout.splitlines() if line.startswith(" class")]
    truth = json.loads((coco / "annotations/instances_val.json").read_text())
    for number in (1, 2, 3):
        objects = sum(annotation["category_id"] == number for annotation in truth["annotations"])
        assert table[number - 1][:3] == ["class", str(number), str(objects)]
        assert len(table[number - 1]) == 13


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


@pytest.fixture
def judged_alone(shared: Path, tmp_path: Path) -> Callable[..., Result]:
    """The command on COCO's example of detections and annotations; its files are written to ``out``."""
    folder = shared / "coco-eval"
    files = {
        "--detections": folder / "instances_val2014_fakebbox100_results.json",
        "--annotations": folder / "instances_val2014_100.json",
    }

    def judge(*arguments: object, **other: Path) -> Result:
        named = files | {f"--{name}": path for name, path in other.items()}
        command = ["evaluate", *(part for pair in named.items() for part in pair), *arguments]
        command += ["--out", tmp_path / "out"]
        return CliRunner().invoke(app, [str(argument) for argument in command], catch_exceptions=False)

    return judge


def pycocotools_on(folder: Path, **parameters: object) -> tuple[COCOeval, list[str]]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        truth = COCO(str(folder / "instances_val2014_100.json"))
        found = truth.loadRes(str(folder / "instances_val2014_fakebbox100_results.json"))
        evaluation = COCOeval(truth, found, "bbox")
        for name, value in parameters.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation, printed.getvalue().splitlines()[-12:]


def mean(values: np.ndarray) -> float:
    return float(values[values > -1].mean())


def test_the_results_of_another_tool_are_judged_as_coco_does(
    judged_alone: Callable[..., Result], shared: Path, tmp_path: Path
) -> None:
    ran = judged_alone()
    assert ran.exit_code == 0, ran.output
    evaluation, printed = pycocotools_on(shared / "coco-eval")
    assert ran.stdout.splitlines()[:12] == printed
    assert "Not comparable" not in ran.stdout
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(metrics.values())[:12] == pytest.approx(evaluation.stats.tolist(), abs=1e-9)
    with np.load(tmp_path / "out/precision_recall.npz") as arrays:
        assert np.array_equal(arrays["precision"], evaluation.eval["precision"][..., 0, 2])
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert found == json.loads((shared / "coco-eval/instances_val2014_fakebbox100_results.json").read_text())
    assert "Best F1 at IoU 0.50" in ran.stdout


@pytest.mark.parametrize(("most", "limits"), [(5, [1, 3, 5]), (300, [1, 10, 100, 300])])
def test_another_number_of_detections_is_said_and_is_that_of_ap(
    judged_alone: Callable[..., Result], shared: Path, most: int, limits: list[int]
) -> None:
    lines = judged_alone("--max-detections", most).stdout.splitlines()
    evaluation, _ = pycocotools_on(shared / "coco-eval", maxDets=limits)
    precision, recall = (
        mean(evaluation.eval["precision"][..., 0, -1]),
        mean(evaluation.eval["recall"][..., 0, -1]),
    )
    assert lines[0].endswith(f"| area=   all | maxDets={most:>3} ] = {precision:.3f}")
    assert (
        f" Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets={most:>3} ] = {recall:.3f}"
        in lines
    )
    assert (
        f"Not comparable with COCO's figures: {most} detections per image and class instead of 100." in lines
    )


def test_other_ious_are_said_and_averaged_over(judged_alone: Callable[..., Result], shared: Path) -> None:
    lines = judged_alone("--iou", "0.8,0.5").stdout.splitlines()
    evaluation, _ = pycocotools_on(shared / "coco-eval", iouThrs=np.array([0.5, 0.8]))
    precision = evaluation.eval["precision"][..., 0, 2]
    start = " Average Precision  (AP) @[ IoU="
    assert lines[0] == f"{start}0.50,0.80 | area=   all | maxDets=100 ] = {mean(precision):.3f}"
    assert lines[1] == f"{start}0.50      | area=   all | maxDets=100 ] = {mean(precision[0]):.3f}"
    assert not any("0.75" in line for line in lines[:12])
    assert "Not comparable with COCO's figures: IoU 0.50, 0.80 instead of 0.50:0.95." in lines


def test_named_classes_alone_are_judged(
    judged_alone: Callable[..., Result], shared: Path, tmp_path: Path
) -> None:
    ran = judged_alone("--classes", "dog, person")
    evaluation, printed = pycocotools_on(shared / "coco-eval", catIds=[1, 18])
    assert ran.stdout.splitlines()[:12] == printed
    assert "Not comparable with COCO's figures: 2 of 80 classes." in ran.stdout
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(metrics.values())[:12] == pytest.approx(evaluation.stats.tolist(), abs=1e-9)
    assert list(metrics["per_class"]) == ["person", "dog"]
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert {entry["category_id"] for entry in found} == {1, 18}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--iou", "0,0.5"], "--iou 0,0.5: expected are numbers above 0 and up to 1"),
        (["--iou", "half"], "--iou half: expected are numbers"),
        (["--classes", "person,persn"], "has no class 'persn': it has person, bicycle, car"),
        (["--split", "val"], "--split and --detections exclude each other: judge a checkpoint"),
        (["--workers", "1"], "--workers and --detections exclude each other"),
    ],
)
def test_what_makes_no_sense_with_a_file_is_said(
    judged_alone: Callable[..., Result], arguments: list[str], message: str
) -> None:
    ran = judged_alone(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert message in " ".join(ran.stderr.split())


def test_results_for_other_images_are_refused(judged_alone: Callable[..., Result], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]')
    ran = judged_alone(detections=other)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "entry 0 has image_id 1, which" in ran.stderr


@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_results_that_never_end_are_refused(
    judged_alone: Callable[..., Result], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "results.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    ran = judged_alone(detections=path)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"{path}: the results cannot be read: it is not a regular file" in ran.stderr


def test_no_results_at_all_are_judged(judged_alone: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    ran = judged_alone(detections=tmp_path / "none.json")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines()[0].endswith("= 0.000")
    json.loads((tmp_path / "out/analysis.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "CKPT"),
        (["run"], "--data"),
        (["--data", "coco"], "CKPT"),
        (["--detections", "d.json"], "--annotations"),
    ],
)
def test_half_a_source_is_refused(arguments: list[str], missing: str) -> None:
    ran = CliRunner().invoke(app, ["evaluate", *arguments], catch_exceptions=False)
    assert ran.exit_code == 2
    assert f"{missing} is missing: name CKPT --data DIR to judge a checkpoint" in ran.stderr
