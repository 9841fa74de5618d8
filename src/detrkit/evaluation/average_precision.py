"""COCO's average precision from running counts, of one ranking or of many at once."""

import numpy as np
from jaxtyping import Float64, Integer

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which COCO reads the precision; not all are the float nearest to their hundredth."""


def average_precision(
    right: Integer[np.ndarray, "N R"], counted: Integer[np.ndarray, "N R"], objects: Integer[np.ndarray, " R"]
) -> Float64[np.ndarray, " R"]:
    """The mean over 101 recalls of the best precision at that recall or above; NaN without objects.

    ``R`` rankings have ``N`` right detections in common. Down to and with the n-th, ``right[n, r]`` of
    ``counted[n, r]`` detections are right. Between them precision only falls, so they say all.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / objects
    precision = right / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(RECALLS, recall, side="right")
    gained = np.diff(reached, axis=0, prepend=0)
    return np.where(objects > 0, (best * gained).sum(axis=0) / len(RECALLS), np.nan)
