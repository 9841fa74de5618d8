"""Learning rate, schedule and weight decay, judged by how far updates move the weights.

A healthy update moves weights by about a thousandth of their size (Karpathy, CS231n, "Neural networks 3"). In
the healthy runs of ``recordings/`` (learning rate 1e-3) it is 2e-3 in the middle, and 5e-3 at most. These are
AdamW's, whose updates are as large as its rate says; SGD's follow the gradient, and nothing is said of them.
"""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts, Stretch

TOO_FAR = 0.03
"""Six times the most of healthy runs. The largest of a run is what counts: weights that were thrown far off
are large, so that later updates look small beside them."""
TOO_LITTLE = 1e-4
"""A tenth of the rule above: with it, weights need ten thousand steps to move by their own size."""
SOON = 0.4
"""DETR and its successors drop their rate after 0.67 to 0.8 of the run."""
SETTLED = 0.25
"""The part of the run before which nothing is said about its course."""
SMALL = 0.01
"""Root mean square to which decay drives weights; those of 256 inputs begin at 0.04 to 0.06."""


def rate_too_high(facts: Facts) -> Ailment | None:
    """Updates are so large that weights cannot settle, and the loss does not fall."""
    ratio = largest_ratio(facts)
    if not by_adamw(facts) or ratio < TOO_FAR or decays_away(facts) or fall(facts) > 0.8:
        return None
    return Ailment(
        "learning-rate-too-high",
        "cause",
        beyond(np.log(ratio), np.log(TOO_FAR), np.log(4 * TOO_FAR)),
        "The learning rate is too high",
        f"an update moves the weights by {ratio:.1%} of their size, where about 0.1 to 1 % is healthy, and "
        f"the loss fell by {fall(facts):.0%} only",
        f"Try {_rates_times(5e-3 / ratio, facts)}, or look for a rate with train --find-lr",
    )


def rate_too_low(facts: Facts) -> Ailment | None:
    """Updates hardly move anything, from the start."""
    ratio = typical_ratio(facts, "rest")
    if not by_adamw(facts) or ratio is None or not 0 < ratio < TOO_LITTLE:
        return None
    if facts.course.best_ap > 0.3 or mostly_frozen(facts):
        return None
    if _dropped_soon(facts) is not None or facts.course.progress < SETTLED:
        return None
    return Ailment(
        "learning-rate-too-low",
        "cause",
        beyond(-np.log(ratio), -np.log(TOO_LITTLE), -np.log(TOO_LITTLE / 5)),
        "The learning rate is too low",
        f"an update moves the weights by {ratio:.1e} of their size, where about 1e-3 is healthy, and the "
        f"loss fell by {fall(facts):.0%}",
        f"Try {_rates_times(2e-3 / ratio, facts)}, or look for a rate with train --find-lr",
    )


def _rates_times(factor: float, facts: Facts) -> str:
    """The settings of both learning rates, multiplied by the same."""
    names = ("optim.lr", "optim.backbone_lr")
    return " ".join(f"--set {name}={facts.number(name) * factor:.1e}" for name in names)


def dropped_too_soon(facts: Facts) -> Ailment | None:
    """The rate fell while the loss was still falling fast, and the loss stood still from there."""
    place = _dropped_soon(facts)
    if place is None:
        return None
    before, after = facts.course.stretches[place - 1], facts.course.stretches[-1]
    first, last = facts.course.first_loss, after.loss
    lost = (before.loss - last) / max(first - before.loss, 1e-9)
    drop = facts.number("schedule.drop_at")
    return Ailment(
        "dropped-too-soon",
        "cause",
        beyond(-drop, -SOON, -SOON / 2),
        "The learning rate drops too soon",
        f"it fell to {_rate(after):.1e} after {drop:.0%} of the run, when the loss had come from "
        f"{first:.3g} to {before.loss:.3g}; in all the steps since then it fell by {max(lost, 0):.0%} of "
        "that only",
        "Try --set schedule.drop_at=0.8",
    )


def _dropped_soon(facts: Facts) -> int | None:
    """The stretch at which an early drop left the loss where it was, if there is one."""
    stretches = facts.course.stretches
    drop, factor = facts.number("schedule.drop_at", 1.0), facts.number("schedule.drop_factor", 1.0)
    if drop >= SOON or factor > 0.5 or facts.course.progress < drop + 0.2:
        return None
    place = next((i for i, one in enumerate(stretches) if one.last >= drop * facts.course.steps), 0)
    if place < 1 or facts.course.best_ap > 0.5:
        return None
    before, end = stretches[place - 1].loss, stretches[-1].loss
    # by the same slope as before the drop, the rest of the run would have brought at least as much again
    return place if before - end < facts.course.first_loss - before else None


def decay_too_strong(facts: Facts) -> Ailment | None:
    """AdamW's decay and its updates come to rest at weights that are too small to learn with.

    Where updates are noise, decoupled decay ends at a root mean square of ``sqrt(rate / (2 decay))`` after
    about ``1 / (rate decay)`` steps (Kosson et al. 2023, "Rotational equilibrium").
    """
    if not decays_away(facts):
        return None
    rate, decay = facts.number("optim.lr"), facts.number("optim.weight_decay")
    return Ailment(
        "weight-decay-too-strong",
        "cause",
        beyond(-np.log(_rest(facts)), -np.log(SMALL), -np.log(SMALL / 2)),
        "The weight decay is too strong",
        f"with optim.weight_decay {decay:g} and optim.lr {rate:g}, weights shrink to about "
        f"{_rest(facts):.1e} within "
        f"{1 / (rate * decay):,.0f} steps, where they begin at about 5e-2; the best AP is "
        f"{facts.course.best_ap:.3f}",
        "Try --set optim.weight_decay=1e-4",
    )


def decays_away(facts: Facts) -> bool:
    """Whether decay has, within the run, brought weights to a size at which nothing is learned."""
    rate, decay = facts.number("optim.lr"), facts.number("optim.weight_decay")
    stretches = facts.course.stretches
    if not by_adamw(facts) or rate * decay <= 0 or not stretches:
        return False
    return stretches[-1].last * rate * decay > 1 and _rest(facts) < SMALL


def _rest(facts: Facts) -> float:
    return float(np.sqrt(facts.number("optim.lr") / (2 * facts.number("optim.weight_decay"))))


def by_adamw(facts: Facts) -> bool:
    """Whether AdamW trains, for which these thresholds are."""
    return facts.settings.get("optim.kind", "adamw") == "adamw"


def mostly_frozen(facts: Facts) -> bool:
    """Whether hardly a parameter is trained."""
    trainable, everything = facts.parameters
    return everything > 0 and trainable < 0.05 * everything


def typical_ratio(facts: Facts, group: str) -> float | None:
    """The median update of a group relative to its weights, over all stretches that measured it."""
    found = [one.ratios[group] for one in facts.course.stretches if group in one.ratios]
    return float(np.median(found)) if found else None


def largest_ratio(facts: Facts) -> float:
    """The largest update of all but the backbone relative to its weights; 0 where none was measured."""
    return max((one.ratios.get("rest", 0.0) for one in facts.course.stretches), default=0.0)


def fall(facts: Facts) -> float:
    """By which part of its first value the loss has fallen."""
    stretches = facts.course.stretches
    if not stretches or facts.course.first_loss <= 0:
        return 0.0
    return 1 - stretches[-1].loss / facts.course.first_loss


def _rate(stretch: Stretch) -> float:
    return max(stretch.rates.values(), default=0.0)
