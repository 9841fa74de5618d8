"""``train.deterministic``: the same losses bit for bit, however many processes load the images."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import detrkit
from detrkit.cli.main import app
from detrkit.detectors.detr import DetrDetector
from detrkit.errors import DetrkitError
from detrkit.structures import LossReport
from detrkit.training.events import Stepped

COUNTS = [2, 1, 3, 0, 2, 1]
LENGTH = {"train.max_steps": 4, "train.validate_every": 9.0, "train.ema": 0.9, "train.trackers": []}


@pytest.fixture
def data(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    return write_coco(tmp_path / "data", train=COUNTS, val=[1, 2])


@pytest.fixture
def settings(small_detr: dict[str, object]) -> dict[str, object]:
    """All that draws at random: crops, sizes, mirroring and dropout."""
    drawn = {"data.short_sides": [32, 48], "data.crop_probability": 0.5, "model.transformer.dropout": 0.1}
    cropped = {"data.crop_short_sides": [48], "data.crop_sides": [24, 40]}
    return small_detr | drawn | cropped | LENGTH


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "step"]


def test_losses_are_the_same_across_runs_and_numbers_of_workers(
    tmp_path: Path, data: Path, settings: dict[str, object]
) -> None:
    def train(name: str, workers: int) -> None:
        chosen = settings | {"train.deterministic": True, "data.workers": workers}
        assert list(detrkit.fit(detrkit.recipe("detr_r50", chosen), data, tmp_path / name))

    train("first", 0)
    expected = losses(tmp_path / "first")
    assert len(set(expected)) == 4
    weights = (tmp_path / "first" / "last" / "tensors-00000004.safetensors").read_bytes()
    for name, workers in (("again", 0), ("one worker", 1), ("three workers", 3)):
        train(name, workers)
        assert losses(tmp_path / name) == expected
        assert (tmp_path / name / "last" / "tensors-00000004.safetensors").read_bytes() == weights


@pytest.mark.parametrize("flags", [[], ["--deterministic"]])
def test_the_flag_is_the_setting(flags: list[str]) -> None:
    shown = CliRunner().invoke(app, ["train", "detr_r50", "--show", *flags])
    assert f"train.deterministic = {bool(flags)}" in shown.output


@pytest.mark.parametrize("wanted", [False, True])
def test_torch_is_told_while_the_run_goes_on(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    told = []
    experiment = detrkit.recipe("detr_r50", settings | {"train.deterministic": wanted, "train.max_steps": 1})
    for event in detrkit.fit(experiment, data, tmp_path / "run"):
        if isinstance(event, Stepped):
            cudnn = torch.backends.cudnn
            told.append((torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark))
    assert told == [(wanted, wanted, not wanted)]
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if wanted else None)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_what_torch_cannot_compute_so_is_one_sentence(
    tmp_path: Path, data: Path, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = DetrDetector.forward

    def forward(self: DetrDetector, *arguments: object) -> LossReport:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))  # which of two writes comes last, none knows
        return genuine(self, *arguments)  # pyright: ignore

    monkeypatch.setattr(DetrDetector, "forward", forward)
    some = settings | {"train.max_steps": 1}
    assert list(detrkit.fit(detrkit.recipe("detr_r50", some), data, tmp_path / "free"))
    with pytest.raises(DetrkitError, match=r"train\.deterministic is true.*put_.*Set it to false"):
        list(
            detrkit.fit(
                detrkit.recipe("detr_r50", some | {"train.deterministic": True}), data, tmp_path / "run"
            )
        )
    assert not torch.are_deterministic_algorithms_enabled()
