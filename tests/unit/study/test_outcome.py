import pytest

from detrkit.errors import DetrkitError
from detrkit.study.curve import Point
from detrkit.study.outcome import Outcome, best_rate


def outcome(rate: float, ap: float, loss: float | None = 1.0, diverged: str = "") -> Outcome:
    curve = [] if diverged else [Point(5, 0.5, 10, 1.0, ap, ap)]
    return Outcome(rate, 5, 0.5, 10, 1.0, loss, diverged, curve)


@pytest.mark.parametrize(
    ("sweep", "rate"),
    [
        ([outcome(1e-4, 0.1), outcome(3e-4, 0.3), outcome(1e-3, 0.2)], 3e-4),
        # what is below a thousandth is not learning yet: the loss says more
        ([outcome(1e-4, 0.0004, loss=3.0), outcome(3e-4, 0.0001, loss=2.0)], 3e-4),
        ([outcome(1e-4, 0.2, loss=3.0), outcome(3e-4, 0.1, loss=2.0)], 1e-4),
        ([outcome(1e-4, 0.0), outcome(1e-3, 0.0, diverged="not finite")], 1e-4),
        ([outcome(1e-4, 0.0, loss=None), outcome(1e-3, 0.0, loss=9.0)], 1e-3),
    ],
)
def test_the_best_rate_has_the_highest_ap_then_the_lowest_loss(sweep: list[Outcome], rate: float) -> None:
    assert best_rate("mine", sweep) == rate


def test_a_recipe_that_diverges_at_every_rate_is_told() -> None:
    sweep = [outcome(1e-3, 0.0, diverged="not finite"), outcome(1e-2, 0.0, diverged="not finite")]
    with pytest.raises(DetrkitError, match=r"mine diverged with every .*\(0\.001, 0\.01\).*--rate"):
        best_rate("mine", sweep)
