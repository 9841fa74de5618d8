"""Long curves with few points, without hiding a spike: each bin keeps its mean, lowest and highest value."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

BINS = 400
"""How many points a line has at most: about as many as a chart has pixels."""


class Thinned(NamedTuple):
    """A curve in bins of ``per_bin`` points each, of which the last may have fewer."""

    x: Float64[np.ndarray, " bins"]
    mean: Float64[np.ndarray, " bins"]
    lowest: Float64[np.ndarray, " bins"]
    highest: Float64[np.ndarray, " bins"]
    per_bin: int


def thin(x: Float64[np.ndarray, " N"], y: Float64[np.ndarray, " N"], bins: int = BINS) -> Thinned:
    """The curve in at most ``bins`` bins of equally many points. A bin lies at the mean of its ``x``.

    Values that are not numbers are left out of their bin; a bin of nothing else is nan.
    """
    per_bin = max(1, -(-len(x) // bins))
    lacking = -len(x) % per_bin
    columns = (np.append(values, np.full(lacking, np.nan)).reshape(-1, per_bin) for values in (x, y))
    (where, values) = columns
    known = ~np.isnan(values)
    empty = ~known.any(axis=1)
    counted = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, values, 0.0).sum(axis=1) / counted
    lowest = np.where(known, values, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(known, values, -np.inf).max(axis=1, initial=-np.inf)
    places = np.nanmean(where, axis=1) if len(where) else np.zeros(0)
    mean, lowest, highest = (np.where(empty, np.nan, column) for column in (mean, lowest, highest))
    return Thinned(places, mean, lowest, highest, per_bin)
