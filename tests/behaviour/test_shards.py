"""Training takes a dataset in shards as it takes its files."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import detrkit
from detrkit.data.shards.plan import Limits
from detrkit.data.shards.write import NO_LIMIT, write_shards
from detrkit.training.events import Event, Interrupted, Stepped

EXACT = {
    "train.max_steps": 5,
    "data.batch_size": 4,
    "train.checkpoint_every": 2,
    "train.ema": 0.99,
    "model.transformer.dropout": 0.1,
    "data.short_sides": [40, 48],
    "data.shards_at_once": 2,
}
"""A run with everything that could differ after a resumption; an epoch is 2.5 steps."""


@pytest.fixture
def packed(tmp_path: Path, write_coco: Callable[..., Path]) -> Path:
    """The 10 images of `train` in 5 shards."""
    data = write_coco(tmp_path / "data", train=[3, 0, 7, 1, 2, 5, 1, 4, 0, 2], val=[1, 2])
    write_shards(data, tmp_path / "packed", lambda *_: None, limits=Limits(NO_LIMIT, 2))
    return tmp_path / "packed"


def train(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> list[Event]:
    return list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=resume))


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Stepped)]


def state(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "last" / "tensors-00000005.safetensors")


def test_an_interrupted_run_on_shards_ends_with_the_bits_of_one_left_alone(
    tmp_path: Path, packed: Path, small_detr: dict[str, object]
) -> None:
    settings = small_detr | EXACT
    alone = train(packed, tmp_path / "whole", settings)

    parts: list[Event] = []
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), packed, tmp_path / "parts"):
        parts.append(event)
        if isinstance(event, Stepped) and event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(parts[-1], Interrupted)
    parts += train(packed, tmp_path / "parts", settings, resume=True)

    assert losses(parts) == losses(alone)
    found, expected = state(tmp_path / "parts"), state(tmp_path / "whole")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()
