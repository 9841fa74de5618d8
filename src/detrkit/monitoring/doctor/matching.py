"""Matching that does not come to rest, so that queries are told one thing now and another later.

DN-DETR (Li et al. 2022, section 3.2) finds that queries which answer for another object in each epoch learn
slowly where to look, and that denoising queries, whose objects are known, steady the others.
"""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Checkup, Facts

UNSTABLE = 0.5
"""The share of the matches that change: with it, half of the objects have another query than before."""
FELL = 0.1
"""A share that fell by less than a tenth of itself, from the first half of the validations to the second."""
GAINED = 0.1
"""An AP that rose by less than a tenth in the second half of the validations stands still."""
FEW = 20
"""Of fewer objects, a share is too uncertain to say anything."""


def matching_unstable(facts: Facts) -> Ailment | None:
    """Most matches change from validation to validation, no fewer than before, while the AP stands still."""
    known = [one for one in facts.course.checkups if one.instability is not None]
    if facts.course.progress < 0.5 or len(known) < 4 or _matches(known[-1]) < 2 * FEW:
        return None
    early, late = known[: len(known) // 2], known[len(known) // 2 :]
    before, now = _share(early), _share(late)
    if now < UNSTABLE or now < (1 - FELL) * before or _gain(early, late) > GAINED:
        return None
    return Ailment(
        "matching-unstable",
        "symptom",
        beyond(now, UNSTABLE, 1.0),
        "Queries keep changing the object that they answer for",
        f"from one validation to the next, {_per_image(late):.1f} queries of a training image change their "
        f"object, which are {now:.0%} of all that could; in the first half of the validations it was "
        f"{before:.0%}, and the best AP is {facts.course.best_ap:.3f}",
        _remedy(facts),
    )


def _matches(checkup: Checkup) -> int:
    return checkup.instability.most if checkup.instability else 0


def _share(checkups: list[Checkup]) -> float:
    return float(np.median([one.instability.share for one in checkups if one.instability]))


def _per_image(checkups: list[Checkup]) -> float:
    return float(np.median([one.instability.per_image for one in checkups if one.instability]))


def _gain(early: list[Checkup], late: list[Checkup]) -> float:
    """By which part of itself the best AP came in the second half."""
    best = max(one.ap for one in [*early, *late])
    return 1 - max(one.ap for one in early) / best if best > 0 else 0.0


def _remedy(facts: Facts) -> str:
    rates = "try a lower learning rate: detrkit tune RECIPE --data DIR"
    if facts.number("model.decoder.denoising.groups"):
        return f"If no cause is named above, {rates}"
    return (
        f"If no cause is named above, {rates}; or a recipe with denoising queries, which steady the matching "
        "(dab_dn_r50, dab_dn_r101)"
    )
