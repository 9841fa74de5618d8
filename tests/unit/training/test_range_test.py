import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import detrkit
from detrkit.cli.main import app
from detrkit.training.events import Stepped
from detrkit.training.range_test import HIGHEST, LOWEST, smooth, suggest


def test_the_suggestion_is_a_tenth_of_the_rate_where_the_loss_is_lowest() -> None:
    rates = np.logspace(-7, 0, 71)
    losses = 2 + np.abs(np.log10(rates) + 2)  # lowest at 1e-2
    assert suggest(rates.tolist(), losses.tolist()) == pytest.approx(1e-3)


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    rates = np.logspace(-7, 0, 50).tolist()
    assert suggest(rates, np.linspace(2, 3, 50).tolist()) is None
    assert suggest(rates, [2.0] * 50) is None
    assert suggest([], []) is None


def test_smoothing_is_an_unbiased_moving_average() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 30)
    expected = []
    for last in range(1, 31):
        weights = 0.95 ** np.arange(last)[::-1]
        expected.append(np.average(losses[:last], weights=weights))
    assert smooth(losses.tolist()) == pytest.approx(expected)


def test_the_command_draws_the_losses_of_a_runs_first_steps_at_rising_rates_and_starts_no_run(
    tmp_path: Path, write_coco: Callable[..., Path], small_detr: dict[str, object]
) -> None:
    data = write_coco(tmp_path / "data", train=[2, 1, 3], val=[1])
    settings = small_detr | {"data.batch_size": 2, "train.max_steps": 2, "train.trackers": []}
    given = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    out = tmp_path / "found"
    arguments = ["train", "detr_r50", "--find-lr", "--data", str(data), "--out", str(out), *given]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (out / "find-lr.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "experiment.toml").exists()
    test = json.loads((out / "find-lr.json").read_text())
    assert test["rates"] == pytest.approx([LOWEST, HIGHEST])
    assert test["backbone"] == pytest.approx(0.1)

    events = detrkit.fit(detrkit.recipe("detr_r50", settings), data, tmp_path / "run")
    first = next(event for event in events if isinstance(event, Stepped))
    events.close()
    assert test["losses"][0] == first.loss
