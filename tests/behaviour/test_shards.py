"""Training and evaluation take a dataset in shards as they take its files."""

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
from detrkit.training.events import Event, Interrupted, Stepped, Validated

EXACT = {
    "train.max_steps": 9,
    "data.batch_size": 4,
    "train.checkpoint_every": 3,
    "train.ema": 0.99,
    "model.transformer.dropout": 0.1,
    "data.short_sides": [40, 48],
}
"""A run with everything that could differ after a resumption; an epoch is 4.5 steps."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_coco: Callable[..., Path]) -> Path:
    counts = [3, 0, 7, 1, 2, 5, 1, 4, 0, 2, 6, 1, 3, 2, 1, 4, 2, 3]
    return write_coco(tmp_path_factory.mktemp("shards") / "data", train=counts, val=[1, 2])


@pytest.fixture(scope="module")
def packed(data: Path) -> Path:
    """The 18 images of `train` in 5 shards."""
    target = data.with_name("packed")
    write_shards(data, target, lambda *_: None, limits=Limits(NO_LIMIT, 4))
    return target


def train(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> list[Event]:
    return list(detrkit.fit(detrkit.recipe("detr_r50", settings), data, out, resume=resume))


def state(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "last" / "tensors-00000009.safetensors")


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_on_shards_ends_as_on_files_where_all_are_mixed(
    tmp_path: Path, data: Path, packed: Path, small_detr: dict[str, object], grouped: bool
) -> None:
    settings = small_detr | EXACT | {"data.shards_at_once": 0, "data.group_by_aspect": grouped}
    scores = [
        event.metrics
        for root in (data, packed)
        for event in train(root, tmp_path / root.name, settings)
        if isinstance(event, Validated)
    ]
    assert scores[: len(scores) // 2] == scores[len(scores) // 2 :] != []
    assert equal(state(tmp_path / "packed"), state(tmp_path / "data"))


def test_an_interrupted_run_on_shards_resumes_to_the_same_bits(
    tmp_path: Path, packed: Path, small_detr: dict[str, object]
) -> None:
    settings = small_detr | EXACT | {"data.shards_at_once": 2}
    train(packed, tmp_path / "whole", settings)
    for event in detrkit.fit(detrkit.recipe("detr_r50", settings), packed, tmp_path / "parts"):
        if isinstance(event, Stepped) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(event, Interrupted)
    assert event.step == 4
    train(packed, tmp_path / "parts", settings, resume=True)
    assert equal(state(tmp_path / "parts"), state(tmp_path / "whole"))


def test_the_order_is_not_that_of_files_where_few_shards_are_mixed(
    tmp_path: Path, data: Path, packed: Path, small_detr: dict[str, object]
) -> None:
    settings = small_detr | EXACT | {"train.max_steps": 1, "data.shards_at_once": 1}
    first = [
        [event.loss for event in train(root, tmp_path / root.name, settings) if isinstance(event, Stepped)]
        for root in (data, packed)
    ]
    assert first[0] != first[1]
