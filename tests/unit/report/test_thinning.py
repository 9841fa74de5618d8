import numpy as np

from detrkit.report.thinning import BINS, thin


def test_a_short_curve_stays_as_it_is() -> None:
    x, y = np.arange(50.0), np.sin(np.arange(50.0))
    thinned = thin(x, y)
    assert thinned.per_bin == 1
    for column in (thinned.mean, thinned.lowest, thinned.highest):
        np.testing.assert_array_equal(column, y)
    np.testing.assert_array_equal(thinned.x, x)


def test_a_long_curve_keeps_its_mean_and_every_spike() -> None:
    y = np.zeros(100_000)
    y[31_415], y[92_653] = 7.0, -5.0
    thinned = thin(np.arange(100_000.0), y)
    assert len(thinned.x) <= BINS
    assert thinned.highest.max() == 7.0
    assert thinned.lowest.min() == -5.0
    np.testing.assert_allclose(thinned.mean.mean(), 2.0 / 100_000)


def test_the_bins_of_a_line_lie_on_it() -> None:
    x = np.arange(1001.0)  # the last bin is not full
    thinned = thin(x, 3 * x + 1, bins=10)
    assert thinned.per_bin == 101
    np.testing.assert_allclose(thinned.mean, 3 * thinned.x + 1)


def test_what_is_no_number_is_left_out_of_its_bin() -> None:
    thinned = thin(np.arange(4.0), np.array([1.0, np.nan, np.nan, np.nan]), bins=2)
    np.testing.assert_array_equal(thinned.mean, [1.0, np.nan])
    np.testing.assert_array_equal(thinned.highest, [1.0, np.nan])


def test_nothing_stays_nothing() -> None:
    assert len(thin(np.zeros(0), np.zeros(0)).x) == 0
