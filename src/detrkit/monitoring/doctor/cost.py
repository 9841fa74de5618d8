"""What costs time or accuracy: faults of the data, waiting for it, a run that ends early."""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts

WAITS = 0.3
"""A third of the time; 8 % in recorded healthy runs, which load without workers."""
RISES = 0.4
"""The share of the final AP that came in the last fifth; if the rate drops there, up to a fifth is usual."""


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


def waits_for_data(facts: Facts) -> Ailment | None:
    """Training stands still until images are loaded."""
    stretches = facts.course.stretches
    if not stretches:
        return None
    waiting = sorted(stretch.waiting for stretch in stretches)[len(stretches) // 2]
    if waiting < WAITS:
        return None
    workers = facts.number("data.workers")
    return Ailment(
        "waits-for-data",
        "cost",
        beyond(waiting, WAITS, 2 * WAITS),
        "Training waits for images",
        f"{waiting:.0%} of a step goes by until its images are loaded; data.workers is {workers:.0f}",
        f"Try --set data.workers={max(2, 2 * int(workers))}, or detrkit data cache for smaller copies of "
        "large images",
    )


def too_short(facts: Facts) -> Ailment | None:
    """The AP was still rising fast when the run ended."""
    course = facts.course
    if facts.state != "finished" or len(course.checkups) < 4 or course.best_ap < 0.02:
        return None
    steps, aps = zip(*((checkup.step, max(checkup.ap, 0.0)) for checkup in course.checkups), strict=True)
    rise = 1 - float(np.interp(0.8 * course.steps, steps, aps)) / course.best_ap
    if rise < RISES or course.checkups[-1].ap < course.best_ap:
        return None
    return Ailment(
        "run-too-short",
        "cost",
        beyond(rise, RISES, 2 * RISES),
        "The run was too short",
        f"{rise:.0%} of its AP of {course.best_ap:.3f} came in the last fifth of the run",
        f"Train at least twice as long: --set train.max_steps={2 * course.steps}",
    )
