"""What is written under the pictures of the contact sheet."""

import numpy as np
from jaxtyping import Int64

from detrkit.catalog import Catalog
from detrkit.data.preview.facts import WHOLE, part_of, seen
from detrkit.data.preview.given import Given
from detrkit.data.views import resized_size
from detrkit.settings.data import DataSettings


def stored_captions(catalog: Catalog, settings: DataSettings, index: int) -> list[str]:
    """The image's name, its sizes, and which of its numbered annotations have which class."""
    height, width = catalog.size(index)
    evaluated = resized_size(height, width, settings.eval_short_side, settings.max_size)
    return [
        " ".join(str(catalog.file_names[index]).split()),
        f"{width} x {height} pixels, in evaluation {evaluated[1]} x {evaluated[0]}",
        _classes(catalog, index),
    ]


def given_captions(catalog: Catalog, index: int, epoch: int, given: Given) -> list[str]:
    """The epoch and size of a view, how it shows the image, and what of the objects."""
    height, width = given.view.size
    found = seen(catalog, index, given.view)
    share = part_of(catalog, index, given.view)
    first = int(catalog.offsets[index]) - 1
    cut, outside = found.annotations[found.cut] - first, found.annotations[~found.shown] - first
    total = len(found.annotations)
    shown = [f"{len(given.annotations)} of {total} objects" if total else "no objects"]
    if len(cut):
        shown.append(f"cut: {_ranges(cut)}")
    if len(outside):
        shown.append(f"outside: {_ranges(outside)}")
    return [
        f"epoch {epoch}: {width} x {height} pixels",
        ("all" if share > WHOLE else f"{share:.0%}") + " of the image" + ", mirrored" * given.view.mirrored,
        "; ".join(shown),
    ]


def _classes(catalog: Catalog, index: int) -> str:
    """``person 1–3, 5; dog 4``."""
    rows = catalog.rows(index)
    labels = catalog.labels[rows]
    if not len(labels):
        return "no objects"
    numbers = np.arange(1, len(labels) + 1)
    named = (
        f"{catalog.categories[label].name} {_ranges(numbers[labels == label])}"
        for label in dict.fromkeys(labels.tolist())
    )
    return "; ".join(named)


def _ranges(numbers: Int64[np.ndarray, " numbers"]) -> str:
    """``1–3, 7`` for 1, 2, 3 and 7."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
