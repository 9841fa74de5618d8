from collections.abc import Callable
from io import FileIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from detrkit.monitoring.progress import ProgressBar


def shown(tell: Callable, *told: object, terminal: bool = False) -> str:
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    bar = ProgressBar(console)
    tell(bar, *told)
    bar.close()
    return text.getvalue()


def test_what_is_trained_is_said_before_it_starts(events: Any, tell: Callable) -> None:
    text = shown(tell, events.started(notes=["3 images have no objects"]))
    for essential in (
        "16 images to train on",
        "5 to validate on",
        "40 steps of 2 images",
        "(5.0 epochs)",
        "on cpu",
        "fp32",
        "1,234 trainable parameters of 56,789",
        f"Run folder: {events.out}",
        "Note: 3 images have no objects",
    ):
        assert essential in text
    assert "Resumed" not in text


def test_a_resumed_run_says_from_where(events: Any, tell: Callable) -> None:
    assert "Resumed after step 12." in shown(tell, events.started(step=12))


def test_without_a_terminal_every_20th_of_the_run_has_a_line(events: Any, tell: Callable) -> None:
    text = shown(tell, events.started(), *(events.stepped(step) for step in range(1, 41)))
    lines = [line for line in text.splitlines() if line.strip()]
    steps = [line for line in lines if line.startswith("step ")]
    assert lines[-len(steps) :] == steps
    assert [line.split()[1] for line in steps] == [f"{step}/40" for step in range(2, 41, 2)]
    assert "epoch 5.0" in steps[-1]
    assert "loss 0.250" in steps[-1]
    assert "lr 3.0e-04" in steps[-1]
    assert "4.0 images/s" in steps[-1]  # 2 images in half a second
    assert "\x1b" not in text


def test_on_a_terminal_there_is_a_bar_instead_of_lines(events: Any, tell: Callable) -> None:
    text = shown(tell, events.started(), *(events.stepped(step) for step in range(1, 41)), terminal=True)
    assert "40/40" in text
    assert "loss 0.250" in text
    assert "step 2/40" not in text


def test_waiting_for_data_is_said_where_it_is_more_than_a_tenth(events: Any, tell: Callable) -> None:
    slow = shown(tell, events.started(), *(events.stepped(step) for step in (1, 2)))
    assert "25% waiting for data" in slow
    fast = shown(tell, events.started(), *(events.stepped(step, data_seconds=0.04) for step in (1, 2)))
    assert "waiting for data" not in fast


def test_the_last_ap_stays_in_view(events: Any, tell: Callable) -> None:
    told = [events.stepped(1), events.stepped(2), events.validated(2), events.stepped(3), events.stepped(4)]
    lines = [line for line in shown(tell, events.started(), *told).splitlines() if line.startswith("step ")]
    assert "AP" not in lines[0]
    assert lines[1].endswith("AP 0.010")


@pytest.mark.parametrize("raw", [False, True])
def test_what_averaging_gains_is_said(events: Any, tell: Callable, raw: bool) -> None:
    text = shown(tell, events.started(), events.validated(8, raw=raw))
    assert ("without averaging AP 0.005" in text) == raw


@pytest.mark.parametrize("kept", [False, True])
def test_a_validation_has_a_line(events: Any, tell: Callable, kept: bool) -> None:
    text = shown(tell, events.started(), events.validated(8, kept))
    assert "validation after epoch 1.0: AP 0.010  AP50 0.020  AP75 0.030  AR100 0.090" in text
    assert ("best so far" in text) == kept


def test_the_end_says_why_and_where_the_best_weights_are(events: Any, tell: Callable) -> None:
    text = shown(tell, events.started(), events.finished(40)).replace("\n", "")
    assert "Finished at step 40: every step is done" in text
    assert "best AP, 0.421, was at step 32" in text
    assert "model.safetensors" in text


def test_an_interruption_says_how_to_go_on(events: Any, tell: Callable) -> None:
    text = shown(tell, events.started(), events.interrupted(7))
    assert "step 7 is saved" in text
    assert "--resume" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_run_goes_on_whose_output_cannot_be_written(events: Any, tell: Callable) -> None:
    with TextIOWrapper(FileIO("/dev/full", "w"), write_through=True) as full:
        with pytest.raises(OSError, match="No space left"):
            full.write("nobody hears this")
        said = [events.started(), events.stepped(2), events.validated(2), events.finished(2)]
        tell(ProgressBar(Console(file=full)), *said)
