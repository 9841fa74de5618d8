"""Sentences that follow from figures, and none that do not."""

from typing import Any

from detrkit.benchmark.results import Effort, Results, Row, Speed, Spread, Stages
from detrkit.study.note.conclusions import (
    accuracy_conclusions,
    lacking_conclusions,
    time_conclusions,
)

EVALUATION = {"large": {"AP": 0.5, "AP50": 0.75}, "small": {"AP": 0.375, "AP50": 0.625}}


def pair(ap: tuple[float, float, float], ap50: tuple[float, float, float]) -> dict[str, Any]:
    names = ("value", "low", "high")
    figures = {
        "AP": dict(zip(names, ap, strict=True), above=0.5),
        "AP50": dict(zip(names, ap50, strict=True), above=0.5),
    }
    return {"question": "depth", "name": "large", "against": "small", **figures}


def told(ap: tuple[float, float, float], ap50: tuple[float, float, float]) -> list[str]:
    return [one.sentence for one in accuracy_conclusions([pair(ap, ap50)], EVALUATION)]


def test_an_interval_above_0_says_better_with_its_figures() -> None:
    assert told((0.125, 0.0625, 0.1875), (0.125, 0.001, 0.25)) == [
        "large is better than small: AP 0.500 against 0.375, a difference of +0.125 "
        "(95 % from +0.062 to +0.188)."
    ]


def test_an_interval_below_0_says_worse() -> None:
    (sentence,) = told((-0.125, -0.25, -0.0625), (-0.125, -0.25, -0.001))
    assert sentence.startswith("large is worse than small: ")


def test_an_interval_that_holds_0_says_that_nothing_tells_them_apart() -> None:
    for low, high in ((-0.1, 0.3), (0.0, 0.3), (-0.3, 0.0), (0.0, 0.0)):
        (sentence,) = told((0.125, low, high), (0.125, low, high))
        assert sentence.startswith(
            "These measurements do not tell large and small apart: AP 0.500 against 0.375"
        )
        assert "better" not in sentence
        assert "worse" not in sentence


def test_where_ap50_says_something_else_both_are_told() -> None:
    sentences = told((0.125, -0.1, 0.3), (0.125, 0.05, 0.3))
    assert sentences[0].startswith("These measurements do not tell large and small apart: AP 0.500")
    assert sentences[1].startswith("large is better than small: AP50 0.750 against 0.625")


def test_a_split_without_objects_has_no_verdict() -> None:
    empty = pair((-1.0, -1.0, -1.0), (-1.0, -1.0, -1.0))
    for figure in ("AP", "AP50"):
        empty[figure]["above"] = -1.0
    (one,) = accuracy_conclusions([empty], EVALUATION)
    assert one.sentence == "large and small cannot be compared, since the validation split has no objects."


def test_what_was_not_tuned_is_said() -> None:
    none: dict[str, Any] = {"settings": None, "best": None}
    assert "no room" in lacking_conclusions(none, 0)[0].sentence
    assert "No trial" in lacking_conclusions(none, 5)[0].sentence
    assert "own settings was best" in lacking_conclusions({"settings": None, "best": 0}, 5)[0].sentence
    assert lacking_conclusions({"settings": {"optim.lr": 1e-3}, "best": 2}, 5) == []


def row(name: str, low: float, median: float, high: float) -> Row:
    speed = Speed(median, median, Spread(median, low, high), Stages(0.0, median, 0.0), {})
    return Row(name, "weights", "", "", None, None, {"fp32": speed}, None, {}, ())


def test_times_are_compared_where_their_turns_do_not_overlap() -> None:
    rows = (
        row("base", 0.010, 0.011, 0.012),
        row("slow", 0.013, 0.020, 0.021),
        row("like", 0.009, 0.0095, 0.010),
    )
    fast = row("fast", 0.001, 0.002, 0.003)
    results = Results("", "", "val", 1, 1, 1, "", "cpu", {}, Effort(), None, (*rows, fast), ())
    assert [one.sentence for one in time_conclusions(results, "base")] == [
        "slow is slower than base: 20.0 ms (turns from 13.0 to 21.0) for an image against 11.0 ms (turns "
        "from 10.0 to 12.0), from its file to its detections in float32.",
        "These measured times do not tell like and base apart: 9.5 ms (turns from 9.0 to 10.0) for an image "
        "against 11.0 ms (turns from 10.0 to 12.0), from its file to its detections in float32.",
        "fast is faster than base: 2.0 ms (turns from 1.0 to 3.0) for an image against 11.0 ms (turns from "
        "10.0 to 12.0), from its file to its detections in float32.",
    ]
    assert time_conclusions(results, "absent") == []
