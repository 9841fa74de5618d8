"""Sentences that follow from figures, and none that do not."""

from typing import Any

from detrkit.benchmark.results import Effort, Results, Row, Speed, Spread, Stages
from detrkit.study.note.comparing import Pair
from detrkit.study.note.conclusions import (
    accuracy_conclusions,
    lacking_conclusions,
    time_conclusions,
    tuning_conclusions,
)

EVALUATION = {"large": {"AP": 0.5, "AP50": 0.75}, "small": {"AP": 0.375, "AP50": 0.625}}


WELL = {"diverged": "", "steps": 1_200, "epochs": 2.5}
TRAINED = {"large": WELL, "small": WELL}


def pair(ap: tuple[float, float, float], ap50: tuple[float, float, float]) -> dict[str, Any]:
    names = ("value", "low", "high")
    figures = {
        "AP": dict(zip(names, ap, strict=True), above=0.5),
        "AP50": dict(zip(names, ap50, strict=True), above=0.5),
    }
    return {"question": "depth", "name": "large", "against": "small", **figures}


def told(ap: tuple[float, float, float], ap50: tuple[float, float, float]) -> list[str]:
    return [one.sentence for one in accuracy_conclusions([pair(ap, ap50)], EVALUATION, TRAINED)]


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
    (one,) = accuracy_conclusions([empty], EVALUATION, TRAINED)
    assert one.sentence == "large and small cannot be compared, since the validation split has no objects."


def test_a_run_that_diverged_or_saw_few_images_is_told_beside_its_verdict() -> None:
    trained = {
        "large": {"diverged": "nan", "steps": 1_200, "epochs": 2.5},
        "small": {**WELL, "epochs": 0.125},
    }
    (one,) = accuracy_conclusions([pair((0.125, 0.0625, 0.1875), (0.125, 0.001, 0.25))], EVALUATION, trained)
    assert one.sentence.endswith(
        "+0.188). large diverged after 1,200 steps. small saw 12% of the images, once."
    )


def test_a_planned_pair_is_not_passed_over_in_silence() -> None:
    pairs = [Pair("depth", "large", "small"), Pair("tuning", "tuned", "small")]
    trained = {"large": {**WELL, "diverged": "the loss is nan"}, "small": WELL}
    (one,) = lacking_conclusions(pairs, [], trained)  # the settings were kept, so that no run is tuned
    assert one.question == "depth"
    assert one.sentence.startswith("large diverged after 1,200 steps, before it was validated")
    assert one.sentence.endswith("the loss is nan")
    assert lacking_conclusions(pairs, [{"name": "large", "against": "small"}], trained) == []


def test_what_was_not_tuned_is_said() -> None:
    def told(settings: object, best: int | None, planned: int, *, tuned: bool = True) -> list[str]:
        found = tuning_conclusions({"settings": settings, "best": best}, planned, tuned=tuned)
        return [one.sentence for one in found]

    assert "no room" in told(None, None, 0)[0]
    assert "No trial" in told(None, None, 5)[0]
    assert "The plan has no run with tuned settings" in told(None, None, 5, tuned=False)[0]
    assert "own settings was best" in told(None, 0, 5)[0]
    assert told({"optim.lr": 1e-3}, 2, 5) == []


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
