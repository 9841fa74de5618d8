"""Precision over recall at every IoU threshold, from the evaluator's own arrays."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from detrkit.errors import DetrkitError
from detrkit.evaluation.arrays import read_npz
from detrkit.evaluation.judged import Judged

_MOST_IOUS, _MOST_RECALLS = 100, 1_010
"""Ten times COCO's, of each: all of them are drawn."""


class Curves(NamedTuple):
    """Precision-recall curves of objects of all sizes: ``T`` IoUs, ``R`` recalls (0 to 1), ``C`` classes.

    ``precision[t, r, c]`` is the best precision of class ``c`` with a recall of ``recalls[r]`` or more, and
    ``scores[t, r, c]`` the score down to which one has to go for that recall; both are 0 where it is not
    reached, and -1 where the class has no object. ``overall[t, r]`` is the mean precision of the classes
    that have objects, -1 if none has: its mean over recalls, and over IoUs, is COCO's AP.
    """

    ious: Float64[np.ndarray, " T"]
    recalls: Float64[np.ndarray, " R"]
    classes: Shaped[np.ndarray, " C"]
    precision: Float64[np.ndarray, "T R C"]
    scores: Float64[np.ndarray, "T R C"]
    overall: Float64[np.ndarray, "T R"]


def curves(judged: Judged) -> Curves:
    """The curves of each class and of all, with the most detections per image that were judged."""
    precision = judged.precision[..., 0, -1]
    present = (precision > -1).all(axis=(0, 1))
    return Curves(
        ious=np.array(judged.ious),
        recalls=np.linspace(0, 1, precision.shape[1]),
        classes=np.array([category.name for category in judged.catalog.categories], dtype=np.str_),
        precision=precision,
        scores=judged.scores[..., 0, -1],
        overall=precision[..., present].mean(axis=-1)
        if present.any()
        else np.full(precision.shape[:2], -1.0),
    )


def write_curves(path: Path, found: Curves) -> None:
    """Write the fields of ``Curves``, under their names, as a compressed file of NumPy's (``.npz``)."""
    np.savez_compressed(path, **found._asdict())


def read_curves(path: Path) -> Curves:
    """What ``write_curves`` wrote, to the bit."""
    try:
        found = Curves(**read_npz(path, Curves._fields))
        _require_agreement(found)
    except ValueError as error:
        raise DetrkitError(
            f"{path}: no precision-recall curves can be read there ({error}): evaluate again to write them."
        ) from None
    return found


def _require_agreement(found: Curves) -> None:
    """A ValueError where arrays are no curves, or not of the same IoUs, recalls and classes."""
    thresholds, recalls, classes = (array.size for array in (found.ious, found.recalls, found.classes))
    if not 1 <= thresholds <= _MOST_IOUS or not 2 <= recalls <= _MOST_RECALLS:
        raise ValueError(f"it has {thresholds} IoUs and {recalls} recalls")
    expected = {
        "ious": (thresholds,),
        "recalls": (recalls,),
        "classes": (classes,),
        "precision": (thresholds, recalls, classes),
        "scores": (thresholds, recalls, classes),
        "overall": (thresholds, recalls),
    }
    for name, array in found._asdict().items():
        if array.shape != expected[name]:
            raise ValueError(f"{name} has the shape {array.shape}, where {expected[name]} is expected")
        if array.dtype.kind == "U" if name == "classes" else array.dtype == np.float64:
            continue
        raise ValueError(f"{name} holds {array.dtype}")
    found.classes.tolist()  # which refuses what is no letter
    for name in ("ious", "recalls", "precision", "overall"):
        values = getattr(found, name)
        if not ((values >= -1) & (values <= 1)).all():
            raise ValueError(f"{name} has values that are no fraction")
