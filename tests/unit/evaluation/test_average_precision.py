"""Average precision from running counts against closed forms."""

import numpy as np
import pytest

from detrkit.evaluation.average_precision import RECALLS, average_precision


def test_recalls_are_those_of_pycocotools_to_the_bit() -> None:
    from pycocotools.cocoeval import Params

    assert np.array_equal(RECALLS, Params("bbox").recThrs)


def test_it_is_the_share_of_recalls_reached_times_their_best_precision() -> None:
    # Right, wrong, right of four objects: recalls to 0.25 at precision 1, to 0.50 at 2/3, and no further.
    one = average_precision(np.array([[1], [2]]), np.array([[1], [3]]), np.array([4]))
    assert one[0] == pytest.approx((26 * 1 + 25 * 2 / 3) / 101, abs=1e-15)


def test_a_recall_has_the_best_precision_of_any_higher_one() -> None:
    # Wrong, right, right, right of three: precision rises to 3/4, which all recalls have.
    one = average_precision(np.array([[1], [2], [3]]), np.array([[2], [3], [4]]), np.array([3]))
    assert one[0] == pytest.approx(0.75, abs=1e-15)


def test_nothing_found_is_0_and_without_objects_there_is_no_precision() -> None:
    nothing = np.zeros((0, 2), np.int64)
    found = average_precision(nothing, nothing, np.array([3, 0]))
    assert found[0] == 0
    assert np.isnan(found[1])
