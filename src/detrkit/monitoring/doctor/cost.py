"""What costs time or accuracy: faults of the data and waiting for it."""

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts

WAITS = 0.3
"""A third of the time; 8 % in recorded healthy runs, which load without workers."""


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
