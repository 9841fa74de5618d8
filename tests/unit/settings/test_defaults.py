import pytest

from detrkit.settings.data import DataSettings
from detrkit.settings.model import BackboneSettings
from detrkit.settings.training import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("2h", 7200), ("1.5h", 5400), ("0.5 m", 30), (" 7s ", 7), ("100h", 360_000)],
)
def test_a_duration_is_a_number_of_seconds_minutes_or_hours(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 minutes", "-5m", "0s", "0.0h", "1h30m", "5M", "1e3s", ".5h"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as") as caught:
        parse_duration(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "norm", "frozen_stages"),
    [
        ({}, "frozen", 2),
        ({"weights": "none"}, "group", 0),
        ({"weights": "mine.pth"}, "frozen", 2),
        ({"weights": "none", "norm": "batch", "frozen_stages": 1}, "batch", 1),
        ({"weights": "imagenet", "norm": "batch", "frozen_stages": 0}, "batch", 0),
    ],
)
def test_what_suits_a_backbone_depends_on_its_weights(given: dict, norm: str, frozen_stages: int) -> None:
    settings = BackboneSettings(**given)
    assert (settings.norm, settings.frozen_stages) == (norm, frozen_stages)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 800),
        ({"short_sides": [64, 128, 96]}, 128),
        ({"short_sides": [64], "eval_short_side": 256}, 256),
    ],
)
def test_evaluation_takes_the_largest_training_size_unless_told(given: dict, expected: int) -> None:
    assert DataSettings(**given).eval_short_side == expected
