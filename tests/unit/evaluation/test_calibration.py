from collections.abc import Callable

import numpy as np
import pytest

from detrkit.evaluation.calibration import calibration
from detrkit.evaluation.judged import Judged

HERE, THERE = (0, 0, 40, 40), (200, 200, 40, 40)


def test_the_closed_form(scene: Callable[..., Judged]) -> None:
    """Two cups at 0.85 of which one is right; one cat at 1.0, right; one cat at 0.25, wrong."""
    objects = [(0, "cup", HERE, False), (0, "cat", THERE, False)]
    found = [(0, "cup", HERE, 0.85), (1, "cup", HERE, 0.85), (0, "cat", THERE, 1.0), (2, "cat", HERE, 0.25)]
    result = calibration(scene(objects, found))
    assert result is not None
    # |0.85 - 0.5| x 2/4 + |1 - 1| x 1/4 + |0.25 - 0| x 1/4
    assert result.error == pytest.approx(0.35 / 2 + 0.25 / 4)
    assert result.per_class == pytest.approx({"cup": 0.35, "cat": 0.125})
    assert result.counts.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 2, 1]
    assert result.confidence[[2, 8, 9]] == pytest.approx([0.25, 0.85, 1])
    assert result.accuracy[[2, 8, 9]] == pytest.approx([0, 0.5, 1])
    assert np.isnan(result.accuracy[:2]).all()
    assert result.edges == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
    assert result.to_dict()["accuracy"][:3] == [None, None, 0]


def test_gaps_within_a_bin_cancel_and_those_of_bins_do_not(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", HERE, False)]
    found = [(0, "cup", HERE, 0.6), (1, "cup", HERE, 0.4)]
    two = calibration(scene(objects, found), bins=2)
    one = calibration(scene(objects, found), bins=1)
    assert two is not None
    assert one is not None
    assert (two.error, one.error) == pytest.approx((0.4, 0.0))


def test_it_counts_pycocotools_decisions(judged: Judged, decisions: list) -> None:
    found = calibration(judged)
    assert found is not None
    scores = np.array([one.found["score"] for one in decisions])
    right = np.array([one.truth is not None for one in decisions])
    places = np.digitize(scores, np.arange(1, 10) / 10)
    gaps = [abs(scores[places == place].sum() - right[places == place].sum()) for place in range(10)]
    assert found.error == pytest.approx(sum(gaps) / len(scores))
    assert found.counts.tolist() == np.bincount(places, minlength=10).tolist()


def test_crowds_do_not_count_and_other_ious_do(scene: Callable[..., Judged]) -> None:
    objects = [(0, "cup", HERE, False), (1, "cup", (0, 0, 90, 90), True)]
    found = [(1, "cup", HERE, 0.3), (0, "cup", (0, 0, 40, 24), 0.75)]  # the second has an IoU of 0.6
    half, strict = (calibration(scene(objects, found), threshold) for threshold in (0, 3))
    assert half is not None
    assert strict is not None
    assert (half.error, strict.error) == pytest.approx((0.25, 0.75))
    assert half.counts.sum() == 1


def test_scores_that_are_no_probabilities_have_none(scene: Callable[..., Judged]) -> None:
    for score in (1.5, -0.1):
        assert calibration(scene([(0, "cup", HERE, False)], [(0, "cup", HERE, score)])) is None


def test_nothing_found(scene: Callable[..., Judged]) -> None:
    result = calibration(scene([(0, "cup", HERE, False)], []))
    assert result is not None
    assert np.isnan(result.error)
    assert result.to_dict()["error"] is None
