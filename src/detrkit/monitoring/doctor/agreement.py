"""What should agree and does not: average and weights, training and evaluation, splits, pixels and scale."""

import numpy as np

from detrkit.monitoring.doctor.ailment import Ailment, beyond
from detrkit.monitoring.doctor.facts import Facts, Splits
from detrkit.monitoring.doctor.learning import weighted

LAGS = 0.2
"""An average that has a fifth less AP than its weights; in recorded healthy runs it has 7 % less at most."""
COSTS_MORE = 2.0
"""The same images cost about as much in evaluation as in training in recorded healthy runs."""
DIM, GLARING = 0.15, 3.0
"""Deviations of the network's input: 1 on ImageNet by construction, 1.1 on shapes."""

MOVED, LARGER = 0.3, 3.0
"""Share of objects of another class, beyond what chance brings, and ratio of mean areas."""


def average_lags(facts: Facts) -> Ailment | None:
    """The moving average, which is what is kept, is behind the weights."""
    last = facts.course.checkups[-1] if facts.course.checkups else None
    if last is None or last.raw_ap is None or last.raw_ap < 0.02 or last.ap > (1 - LAGS) * last.raw_ap:
        return None
    behind = 1 - max(last.ap, 0) / last.raw_ap
    if facts.course.progress < 0.5:
        return None
    decay, steps = facts.number("train.ema"), facts.course.steps
    return Ailment(
        "average-lags",
        "cause",
        beyond(behind, LAGS, 2 * LAGS),
        "The moving average lags behind the weights",
        f"at step {last.step:,} its AP is {last.ap:.3f} and theirs is {last.raw_ap:.3f}; with train.ema "
        f"{decay:g} it remembers about {1 / max(1 - decay, 1e-9):,.0f} steps of a run of {steps:,}",
        f"Try --set train.ema={max(0.0, 1 - 50 / max(steps, 51)):.3g}",
    )


def evaluation_differs(facts: Facts) -> Ailment | None:
    """The images that were trained on cost far more once evaluation looks at them."""
    probe, stretches = facts.probe, facts.course.stretches
    last = facts.course.checkups[-1] if facts.course.checkups else None
    if probe is None or not stretches or last is None or not stretches[-1].terms:
        return None
    if last.raw_ap is not None and last.ap < (1 - LAGS) * last.raw_ap:
        return None  # which is the average's fault
    trained = _at_best(facts)
    evaluated = weighted(facts, probe.terms[0])
    if trained <= 0 or evaluated < COSTS_MORE * trained:
        return None
    return Ailment(
        "evaluation-differs-from-training",
        "cause",
        beyond(evaluated / trained, COSTS_MORE, 1.5 * COSTS_MORE),
        "The same images look different in evaluation",
        f"training images cost {evaluated:.2f} as evaluation sees them, and {trained:.2f} when they were "
        f"trained on; the network is given pixels of mean {probe.pixels[0][0]:.2f} and deviation "
        f"{probe.pixels[0][1]:.2f}",
        "Look for what is done to pixels or to layers in one of the two alone: normalisation, order of "
        "colours, image size, BatchNorm (model.backbone.norm=batch needs steps enough to know its "
        "statistics)",
    )


def _at_best(facts: Facts) -> float:
    """The training loss of the answer when the model that is kept was kept."""
    best = max(reversed(facts.course.checkups), key=lambda checkup: checkup.ap)  # the last is kept of equals
    stretch = min(facts.course.stretches, key=lambda one: abs(one.last - best.step))
    return weighted(facts, stretch.terms)


def pixels_off(facts: Facts) -> Ailment | None:
    """The network is given numbers of another size than those it is made for."""
    if facts.probe is None:
        return None
    mean, deviation = facts.probe.pixels[0]
    if DIM < deviation < GLARING and abs(mean) < 3:
        return None
    return Ailment(
        "pixels-off-scale",
        "cause",
        0.97,
        "The images are normalised wrongly, or are nearly of one colour",
        f"the network is given numbers of mean {mean:.3g} and deviation {deviation:.3g}, where about 0 and "
        "1 are meant",
        "Images must be stored with 8 bits from black 0 to white 255; see what the network is given with "
        "detrkit data preview DIR",
    )


def splits_differ(facts: Facts) -> Ailment | None:
    """The validation split has other classes or boxes than the training split."""
    splits = facts.splits
    if splits is None or min(splits.images) < 20:
        return None
    moved = 0.5 * float(np.abs(np.subtract(*splits.shares)).sum()) - _by_chance(splits)
    area = [box[2] * box[3] for box in splits.mean_boxes]
    ratio = max(area) / min(area) if min(area) > 0 else 1.0
    if moved < MOVED and ratio < LARGER:
        return None
    return Ailment(
        "splits-differ",
        "cause",
        beyond(moved, MOVED, 2 * MOVED),
        "The two splits hold different objects",
        f"{max(moved, 0):.0%} of the objects more than by chance have another class, and the mean box is "
        f"{ratio:.1f} times as large in one of them",
        "Split anew: detrkit data split keeps the shares of the classes",
    )


def _by_chance(splits: Splits) -> float:
    """The share that differs on average between random splits: 0.8 deviations of each class, counted half."""
    share = np.array(splits.shares[0])
    counts = [max(images * splits.mean_objects, 1.0) for images in splits.images]
    return 0.4 * float(np.sqrt(share * (1 - share) * sum(1 / count for count in counts)).sum())
