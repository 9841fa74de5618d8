"""What was taught wrongly: boxes in another format, classes of another number or at random, faulty data."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.answers import AS_THEY_ARE
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.rates import SETTLED

FITS_BETTER = 0.15
"""By how much the mean IoU must rise under a mix-up; in recorded runs without one, by 0.09 at most."""
FITS = 0.35
"""A mean IoU below this is no fit of anything: runs that learned nothing have 0.33 at most."""
LEARNED = 0.45
"""A mean IoU from which boxes are learned; those of one size at likely places have 0.2 to 0.3."""
EXPLAINED, EXPLAINS = 0.6, 0.3
"""Share of the objects found whose class is right once classes are exchanged, and how much more that is than
as they are. Healthy runs gain nothing by any exchange; one that learned nothing came to 0.58, of 24."""
GUESSED, OTHERS = 0.75, 0.3
"""The class error as a part of that of always naming the most frequent class, and the least that this must
be: where one class is nearly all there is, an error near chance says nothing. Healthy runs have none."""
FEW = 20
"""Of fewer objects, shares are too uncertain to say anything."""


def boxes_mistaken(facts: Facts) -> Ailment | None:
    """What is found fits the true boxes much better once these are read in a wrong way."""
    answers = facts.answers
    if answers is None or answers.objects < FEW:
        return None
    right = answers.fits[AS_THEY_ARE]
    name = max(answers.fits, key=lambda name: answers.fits[name])
    best = answers.fits[name]
    if best < FITS or best < right + FITS_BETTER:
        return None
    return Ailment(
        "boxes-mistaken",
        "cause",
        beyond(best - right, FITS_BETTER, 2 * FITS_BETTER),
        f"The training boxes look {_as_read(name)}",
        f"detections have a mean IoU of {best:.2f} with the validation split's boxes once these are "
        f"{_made(name)}, and {right:.2f} with them as they are",
        "Compare the boxes of both splits in detrkit data preview DIR, and correct the training annotations; "
        "detrkit data check DIR --fix DST mends what it recognises",
    )


def _as_read(name: str) -> str:
    return f"like {name}" if " read as " in name else name


def _made(name: str) -> str:
    return "read that way" if " read as " in name else name


def labels_mistaken(facts: Facts) -> Ailment | None:
    """Places are right and classes are wrong, always in the same way."""
    found = _confusion(facts)
    if found is None or len(found) < 2:
        return None
    total = found.sum()
    rows, columns = linear_sum_assignment(-found)
    right, mapped = np.trace(found) / total, found[rows, columns].sum() / total
    if mapped < EXPLAINED or mapped < right + EXPLAINS:
        return None
    seen = found.sum(axis=1) > 0
    moves = (columns - rows)[seen & (columns != rows)]
    shift = f"by {moves[0]:+d} each" if len(set(moves % len(found))) == 1 and len(moves) > 1 else ""
    pairs = [
        f"{row} is found as {column}" for row, column in zip(rows, columns, strict=True) if row != column
    ]
    return Ailment(
        "labels-mistaken",
        "cause",
        beyond(mapped - right, EXPLAINS, 0.5),
        "Classes of the two splits mean different things" + (f", shifted {shift}" if shift else ""),
        f"of {total:,} objects whose place is found, {right:.0%} are given their class, and {mapped:.0%} if "
        f"classes are exchanged: label {', '.join(pairs[:4])}{' ..' if len(pairs) > 4 else ''} (labels "
        "count from 0)",
        "Compare the categories of both annotation files, above all whether one counts from 0 and one from 1",
    )


def labels_at_random(facts: Facts) -> Ailment | None:
    """Boxes are learned and classes are not: the labels do not depend on the images."""
    course, splits, answers = facts.course, facts.splits, facts.answers
    if course.progress < SETTLED or not course.stretches or splits is None or answers is None:
        return None
    last = course.stretches[-1].terms.get("class_error")
    if last is None or answers.fits[AS_THEY_ARE] < LEARNED or len(splits.shares[0]) < 2:
        return None
    wrong, chance = last[-1] / 100, 1 - max(splits.shares[0])
    if chance < OTHERS or wrong < GUESSED * chance:
        return None
    return Ailment(
        "labels-at-random",
        "cause",
        beyond(wrong / chance, GUESSED, 0.95),
        "Classes are not learned, though boxes are",
        f"{wrong:.0%} of the matched queries have a wrong class, where always naming the most frequent one "
        f"would have {chance:.0%}, while the boxes that are found have a mean IoU of "
        f"{answers.fits[AS_THEY_ARE]:.2f} with the objects",
        "Look whether labels belong to their images: detrkit data preview DIR",
    )


def data_faulty(facts: Facts) -> Ailment | None:
    """What the check of the annotations finds."""
    findings = facts.splits.findings if facts.splits else {}
    # which has an ailment of its own, that counts how many objects it is about
    named = {name: text for name, text in findings.items() if name != "too-many-objects"}
    if not named:
        return None
    return Ailment(
        "data-faulty",
        "cause",
        0.5,
        "The check of the annotations finds faults",
        "; ".join(text.rstrip(".") for text in list(named.values())[:3]),
        "See all with detrkit data check DIR, which mends a copy with --fix DST",
    )


def _confusion(facts: Facts) -> np.ndarray | None:
    if facts.answers is None:
        return None
    found = np.array(facts.answers.confusion, np.int64)
    return found if found.sum() >= FEW else None
