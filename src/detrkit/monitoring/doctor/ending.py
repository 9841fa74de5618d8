"""Runs that broke: a loss that is no number, or that rose beyond where it began."""

from detrkit.monitoring.doctor.ailment import Ailment
from detrkit.monitoring.doctor.facts import Facts
from detrkit.monitoring.doctor.rates import TOO_FAR, largest_ratio

DIVERGED = 2.0
"""A loss of twice its lowest is no noise: medians of 40 stretches of healthy runs stay within 1.2 of it."""


def not_finite(facts: Facts) -> Ailment | None:
    """Training met NaN or infinity, while the loss had not risen before."""
    course = facts.course
    if "finite" not in course.error:
        return None
    if _rise(facts) >= DIVERGED or largest_ratio(facts) >= TOO_FAR:
        return None  # a number that grew until it was none
    return Ailment(
        "not-finite",
        "cause",
        1.0,
        "A number that is not finite ended the run",
        f"{course.error.rstrip('.')}; before that the loss was falling or steady, so that a learning rate "
        "that is too high is less likely than a broken image or box",
        "Look at the images that are named; detrkit data check DIR --pixels opens all of them, and --resume "
        "goes on from the last save",
    )


def diverged(facts: Facts) -> Ailment | None:
    """The loss rose far beyond its lowest and stayed there."""
    rise = _rise(facts)
    if rise < DIVERGED:
        return None
    course = facts.course
    lowest = min(course.stretches, key=lambda stretch: stretch.loss)
    last = course.stretches[-1]
    rate = facts.number("optim.lr")
    ended = f"; then {course.error.rstrip('.')}" if course.error else ""
    return Ailment(
        "diverged",
        "symptom",
        0.99,
        "Training diverged",
        f"the loss rose from {lowest.loss:.3g} at step {lowest.last:,} to {last.loss:.3g} at step "
        f"{last.last:,}{ended}",
        f"Lower the learning rate: --set optim.lr={rate / 10:.0e}, or look for one with train --find-lr; a "
        "warm-up (schedule.warmup=0.05) helps where it happens at the start",
    )


def _rise(facts: Facts) -> float:
    """How many times its lowest, before, the loss is at the end."""
    stretches = facts.course.stretches
    if len(stretches) < 4:
        return 0.0
    end = sorted(stretch.loss for stretch in stretches[-3:])[1]
    lowest = min(stretch.loss for stretch in stretches)
    return end / lowest if lowest > 0 else 0.0
